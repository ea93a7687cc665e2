"""Real daily closes: predict the next day's log return from the returns before it.

B companies, T days.
"""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from statland.batch import Batch, pad
from statland.data.base import TRAIN, Companies, Days, Market, check_ages, direction
from statland.data.price_files import PriceFileError, price_files, read_folder
from statland.settings import Range, SettingError, printable

PACKAGED = Path(__file__).parents[3] / "data"

# Of a training batch, at most. Where few samples are of like age, the batch is smaller instead.
MOST_PADDING = 0.1

MOST_NAMES = 10  # of companies in one line


class Stocks(Market):
    """One sample per company and day: its log returns up to that day, and the next day's.

    A history is as long as the company has traded, from min_days up to at most max_days. The last
    `validation_fraction` of all trading dates is for validation: a training sample ends before
    them, its target included. Returns are divided by their standard deviation over the training
    dates; no mean is subtracted, so a forecast of zero stays zero. `path` is a folder of CSV files,
    None for the folder `packaged` that comes with the bench.
    """

    forecasts_returns = True
    score = staticmethod(direction)

    def __init__(
        self,
        path: str | None,
        min_days: Days,
        max_days: Days,
        batch_size: Companies,
        validation_fraction: Annotated[float, Range(above=0, below=1)],
        validation_samples: Companies,
        seed: int,
        packaged: str = "stocks",
        date_format: str | None = None,
    ) -> None:
        check_ages(min_days, max_days)
        self.max_days, self.validation_samples, self.seed = max_days, validation_samples, seed
        folder = PACKAGED / packaged if path is None else Path(path)
        everyone = read_folder(folder, date_format)
        self.fingerprint = {
            file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in price_files(folder)
        }
        fewest = min_days + 2  # closes of one sample
        unpriced = {c.name: c.missing for c in everyone if c.missing}
        short = {c.name: len(c.closes) for c in everyone if len(c.closes) < fewest}
        self.notes = [
            *_note("rows without a price", sum(unpriced.values()), unpriced),
            *_note(f"companies with fewer than the {fewest} days of one sample", len(short), short),
        ]
        companies = [company for company in everyone if len(company.closes) >= fewest]
        if not companies:
            raise PriceFileError(
                f"{folder}: no company has the {fewest} days that data.min_days {min_days} needs"
            )
        self.names = [company.name for company in companies]
        dates = np.unique(np.concatenate([company.dates for company in companies]))
        # The first date that is for validation.
        self.cut = dates[min(len(dates) - 1, int((1 - validation_fraction) * len(dates)))]
        returns = [np.diff(np.log(company.closes)) for company in companies]
        is_past = [company.dates[1:] < self.cut for company in companies]
        self.train, self.held_out = _samples(is_past, min_days)
        if not (len(self.train) and len(self.held_out)):
            raise SettingError(
                f"{folder}: data.validation_fraction {validation_fraction:g} leaves no sample for "
                f"{'validation' if len(self.train) else 'training'}"
            )
        past = np.concatenate([r[p] for r, p in zip(returns, is_past, strict=True)])
        self.scale = float(past.std())
        if not self.scale > 0:
            raise PriceFileError(f"{companies[0].source}: no price moves before {self.cut}")
        self.returns = [torch.from_numpy(r / self.scale).float() for r in returns]
        self.stops = full_batches(np.sort(self._ages(self.train)), batch_size)
        self._epoch = lru_cache(maxsize=2)(self._shuffled)

    def train_batch(self, step: int) -> Batch:
        """The training batch of a step; each sample comes once per epoch, in a new order."""
        batches = self._epoch(step // len(self.stops))
        return self._batch(batches[step % len(self.stops)])

    def validation(self) -> list[Batch]:
        """At most `validation_samples` samples after the cut, evenly spread over them."""
        keep = min(self.validation_samples, len(self.held_out))
        spread = np.linspace(0, len(self.held_out) - 1, keep).round().astype(int)
        samples = self._by_age(self.held_out[spread])
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
        ages: np.ndarray = np.minimum(samples[:, 1], self.max_days)
        return ages

    def _batch(self, samples: np.ndarray) -> Batch:
        histories, tomorrow = [], []
        for company, day in samples.tolist():
            returns = self.returns[company]
            histories.append(returns[max(0, day - self.max_days) : day].unsqueeze(-1))
            tomorrow.append(returns[day])
        x, lengths = pad(histories)
        return Batch(x, lengths, torch.stack(tomorrow).unsqueeze(-1))


def full_batches(ages: np.ndarray, batch_size: int) -> list[int]:
    """Return where batches of ascending ages end: at batch_size, or before padding exceeds 10%."""
    stops, start, days = [], 0, 0
    for place, age in enumerate(ages.tolist()):
        count = place - start + 1
        if count > batch_size or days + age < (1 - MOST_PADDING) * count * age:
            stops.append(place)
            start, days = place, 0
        days += age
    return [*stops, len(ages)]


def _note(what: str, total: int, companies: dict[str, int]) -> list[str]:
    """Return a line on what is left out, which names at most ten companies; none without any."""
    items = [f"{name} {count}" for name, count in companies.items()]
    more = f" and {len(items) - MOST_NAMES} more" if len(items) > MOST_NAMES else ""
    note = f"{what}, left out: {total} ({', '.join(items[:MOST_NAMES])}{more})"
    return [printable(note)] if items else []


def _samples(is_past: list[np.ndarray], min_days: int) -> tuple[np.ndarray, np.ndarray]:
    """Return training and validation samples (company, day), whose answer is that day's return.

    `is_past` says for each company's returns whether they lie before the validation dates.
    """
    samples = np.concatenate(
        [
            np.stack([np.full(len(past) - min_days, c), np.arange(min_days, len(past))], axis=1)
            for c, past in enumerate(is_past)
        ]
    )
    trains = np.concatenate([past[min_days:] for past in is_past])
    return samples[trains], samples[~trains]
