"""Real daily closes: predict the next day's log return from the returns before it.

B companies, T days.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from statland.batch import Batch, pad
from statland.data.base import TRAIN, Market, check_ages, direction
from statland.data.dates import parse_dates
from statland.data.price_files import Closes, fingerprint, read_folder
from statland.data.price_table import PriceFileError
from statland.settings import SettingError, choice, integer, number

PACKAGED = Path(__file__).parents[3] / "data"

# Of a training batch, at most. Where few samples are of like age, the batch is smaller instead.
MOST_PADDING = 0.1

MOST_NAMES = 10  # of companies in one line


class Stocks(Market):
    """One sample a company and day: its log returns up to that day, and the next day's.

    A history is as long as the company has traded, from min_days up to at most max_days. The last
    `validation_fraction` of all trading dates is for validation: a training sample ends, target
    and all, before them. Returns are divided by their standard deviation over the training dates,
    and nothing is taken off: a forecast of zero stays zero.

    `notes` has a line on companies and rows that are left out, `fingerprint` a hash of each file.
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
        packaged: str = "stocks",
        date_format: str | None = None,
    ) -> None:
        self.min_days, self.max_days = check_ages(min_days, max_days)
        self.batch_size = integer("data.batch_size", batch_size, 1, 10**9)
        fraction = number("data.validation_fraction", validation_fraction, above=0, below=1)
        self.validation_samples = integer("data.validation_samples", validation_samples, 1, 10**9)
        self.seed = integer("seed", seed, 0)
        folder = price_folder(path, packaged)
        _check_date_format(date_format)

        everyone = read_folder(folder, date_format)
        self.fingerprint = fingerprint(folder)
        companies = _with_samples(everyone, min_days)
        self.notes = _notes(everyone, companies, min_days)
        self.names = [company.name for company in companies]
        dates = np.unique(np.concatenate([company.dates for company in companies]))
        # The first date that is for validation.
        self.cut = dates[min(len(dates) - 1, int((1 - fraction) * len(dates)))]
        returns = [np.diff(np.log(company.closes)) for company in companies]
        is_past = [company.dates[1:] < self.cut for company in companies]
        self.train, self.held_out = _samples(is_past, min_days)
        for part, name in ((self.train, "training"), (self.held_out, "validation")):
            if not len(part):
                raise SettingError(
                    f"data.validation_fraction {fraction:g} leaves no {name} sample in "
                    f"{folder}; allowed: one that leaves some"
                )
        past = np.concatenate([r[p] for r, p in zip(returns, is_past, strict=True)])
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
    """Where the batches of ascending ages end: at batch_size, or where padding would pass 10%."""
    stops, start, days = [], 0, 0
    for place, age in enumerate(ages.tolist()):
        count = place - start + 1
        if count > batch_size or days + age < (1 - MOST_PADDING) * count * age:
            stops.append(place)
            start, days = place, 0
        days += age
    return [*stops, len(ages)]


def price_folder(path: str | None, packaged: str) -> Path:
    """The folder that `path` names, else the folder of that name that comes with the bench."""
    folders = sorted({file.parent.name for file in PACKAGED.glob("*/*.csv*")})
    choice("data.packaged", packaged, folders)
    if path is None:
        return PACKAGED / packaged
    if not isinstance(path, str) or not path.strip():
        raise SettingError(f"data.path is {path!r}; allowed: a folder")
    return Path(path)


def _check_date_format(date_format: str | None) -> None:
    """Raise SettingError where pandas could not parse dates by this format."""
    reason = ""
    try:
        if date_format is None:
            return
        if isinstance(date_format, str) and "%" in date_format:
            parse_dates(pd.Series(["1"]), date_format)
            return
    except ValueError as error:
        reason = f" ({error})"
    raise SettingError(
        f"data.date_format is {date_format!r}; allowed: null, a strptime format like %d/%m/%Y"
        f"{reason}"
    )


def _with_samples(companies: list[Closes], min_days: int) -> list[Closes]:
    """The companies that are long enough for one sample; raises PriceFileError where none is."""
    long_enough = [company for company in companies if len(company.closes) >= min_days + 2]
    if not long_enough:
        longest = max(companies, key=lambda company: len(company.closes))
        raise PriceFileError(
            f"{longest.source}: company {longest.name} has {len(longest.closes)} days, too few for "
            f"one sample, and no other has more; data.min_days {min_days} needs {min_days + 2}"
        )
    return long_enough


def _notes(everyone: list[Closes], kept: list[Closes], min_days: int) -> list[str]:
    """One line on rows without a price, one on companies too short; none where all is used."""
    notes = []
    rows = sum(company.missing for company in everyone)
    if rows:
        counts = _listed([f"{c.name} {c.missing}" for c in everyone if c.missing])
        notes.append(f"rows without a price, left out: {rows} ({counts})")
    names = {company.name for company in kept}
    short = [f"{c.name} {len(c.closes)}" for c in everyone if c.name not in names]
    if short:
        notes.append(
            f"companies with fewer than the {min_days + 2} days of one sample, left out: "
            f"{len(short)} ({_listed(short)})"
        )
    return ["".join(c if c.isprintable() else " " for c in note) for note in notes]


def _listed(items: list[str]) -> str:
    more = len(items) - MOST_NAMES
    return ", ".join(items[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _samples(is_past: list[np.ndarray], min_days: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation samples (company, day): the return of that day is the answer.

    `is_past` has for each company (returns,) whether a return lies before the validation dates.
    """
    samples = np.concatenate(
        [
            np.stack([np.full(len(past) - min_days, c), np.arange(min_days, len(past))], axis=1)
            for c, past in enumerate(is_past)
        ]
    )
    trains = np.concatenate([past[min_days:] for past in is_past])
    return samples[trains], samples[~trains]
