"""Real daily closes: predict the next day's log return from the returns before it.

B companies, T days.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from statland.batch import Batch, pad
from statland.data.base import TRAIN, Market, check_ages, direction
from statland.data.price_files import PriceFileError, read_folder
from statland.settings import SettingError, number, whole

OUR_FILES = Path(__file__).parents[3] / "data" / "stocks"

# Of a training batch, at most. Where few samples are of like age, the batch is smaller instead.
MOST_PADDING = 0.1


class Stocks(Market):
    """One sample a company and day: its log returns up to that day, and the next day's.

    A history is as long as the company has traded, from min_days up to at most max_days. The last
    `validation_fraction` of all trading dates is for validation: a training sample ends, target
    and all, before them. Returns are divided by their standard deviation over the training dates,
    and nothing is taken off: a forecast of zero stays zero.
    """

    forecasts_returns = True
    score = staticmethod(direction)

    def __init__(
        self,
        path: str | None,
        min_days: int,
        max_days: int,
        batch_size: int,
        validation_fraction: float,
        validation_samples: int,
        seed: int,
    ) -> None:
        self.min_days, self.max_days = check_ages(min_days, max_days)
        self.batch_size = whole("data.batch_size", batch_size, 1, 10**9)
        fraction = number("data.validation_fraction", validation_fraction, above=0, below=1)
        self.validation_samples = whole("data.validation_samples", validation_samples, 1, 10**9)
        self.seed = whole("seed", seed, 0)
        if path is not None and (not isinstance(path, str) or not path.strip()):
            raise SettingError(f"data.path is {path!r}; allowed: a folder")

        companies = read_folder(OUR_FILES if path is None else Path(path))
        for company in companies:
            if len(company.closes) < min_days + 2:
                raise PriceFileError(
                    f"{company.source}: company {company.name} has {len(company.closes)} days, too "
                    f"few for one sample; data.min_days {min_days} needs {min_days + 2}"
                )
        dates = np.unique(np.concatenate([company.dates for company in companies]))
        # The first date that is for validation.
        self.cut = dates[min(len(dates) - 1, int((1 - fraction) * len(dates)))]
        self.names = [company.name for company in companies]
        returns = [np.diff(np.log(company.closes)) for company in companies]
        known = [company.dates[1:] < self.cut for company in companies]
        # A sample is (company, day): the return of that day is what it predicts.
        samples = np.concatenate(
            [
                np.stack([np.full(len(r) - min_days, c), np.arange(min_days, len(r))], axis=1)
                for c, r in enumerate(returns)
            ]
        )
        is_past = np.array([known[company][day] for company, day in samples])
        self.train, self.held_out = samples[is_past], samples[~is_past]
        for part, name in ((self.train, "training"), (self.held_out, "validation")):
            if not len(part):
                raise SettingError(
                    f"data.validation_fraction {fraction:g} leaves no {name} sample in "
                    f"{OUR_FILES if path is None else path}; allowed: one that leaves some"
                )
        past = np.concatenate([r[k] for r, k in zip(returns, known, strict=True)])
        self.scale = float(past.std())
        if not self.scale > 0:
            raise PriceFileError(f"{companies[0].source}: no price moves before {self.cut}")
        self.returns = [torch.from_numpy(r / self.scale).float() for r in returns]
        self.stops = full_batches(np.sort(self._ages(self.train)), self.batch_size)
        self._epoch = lru_cache(maxsize=2)(self._shuffled)

    def train_batch(self, step: int) -> Batch:
        """The training batch of a step; each sample comes once an epoch, in an order of its own."""
        batches = self._epoch(step // len(self.stops))
        return self._batch(batches[step % len(self.stops)])

    def validation(self) -> list[Batch]:
        """At most `validation_samples` samples after the cut, evenly spread over them."""
        keep = min(self.validation_samples, len(self.held_out))
        spread = np.linspace(0, len(self.held_out) - 1, keep).round().astype(int)
        samples = self.held_out[spread]
        samples = self._by_age(samples)
        return [self._batch(samples[i : i + 512]) for i in range(0, keep, 512)]

    def _shuffled(self, epoch: int) -> list[np.ndarray]:
        """The training samples in batches of like age, the batches and ties in random order."""
        rng = np.random.default_rng([self.seed, TRAIN, epoch])
        samples = self._by_age(rng.permutation(self.train))
        batches = np.split(samples, self.stops[:-1])
        return [batches[place] for place in rng.permutation(len(batches))]

    def _by_age(self, samples: np.ndarray) -> np.ndarray:
        return samples[np.argsort(self._ages(samples), kind="stable")]

    def _ages(self, samples: np.ndarray) -> np.ndarray:
        return np.minimum(samples[:, 1], self.max_days)

    def _batch(self, samples: np.ndarray) -> Batch:
        histories, tomorrow = [], []
        for company, day in samples.tolist():
            returns = self.returns[company]
            histories.append(returns[max(0, day - self.max_days) : day].unsqueeze(-1))
            tomorrow.append(returns[day])
        x, lengths = pad(histories)
        return Batch(x, lengths, torch.stack(tomorrow).unsqueeze(-1))


def full_batches(ages: np.ndarray, batch_size: int) -> list[int]:
    """Where the batches of ascending ages end: at batch_size, or where padding would pass 10%."""
    stops, start, days = [], 0, 0
    for place, age in enumerate(ages.tolist()):
        count = place - start + 1
        if count > batch_size or days + age < (1 - MOST_PADDING) * count * age:
            stops.append(place)
            start, days = place, 0
        days += age
    return [*stops, len(ages)]
