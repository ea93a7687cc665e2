"""The contract of a market, and what the synthetic markets share.

B companies, T days, F features a day, K outputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from statland.batch import Batch
from statland.settings import Range, SettingError

# Streams of random numbers. Validation does not depend on the seed: all runs meet the same test.
TRAIN, VALIDATION, VALIDATION_AGAIN = 0, 1, 2

VALIDATION_COMPANIES = 256

# A forecast whose mean squared error is below this is exact, rounding apart.
EXACT = 1e-12

Days = Annotated[int, Range(1, 10**9)]  # an age
TwoDays = Annotated[int, Range(2, 10**9)]  # one with a day before the last
Companies = Annotated[int, Range(1, 10**9)]  # of a batch
Labels = Literal["last", "every"]


class Market(ABC):
    """Histories of companies of different ages, each with the value on the day after its last.

    A training batch is a pure function of (seed, step), so a resumed run sees the batches that it
    would have seen.
    """

    input_size: int = 1  # F
    output_size: int = 1  # K
    loss: Literal["mse", "cross_entropy"] = "mse"  # cross_entropy: the answers are K classes
    labels: Labels = "last"  # whether the last day is asked, or every day
    forecasts_returns: bool = False  # then forecasting zero is a baseline
    notes: Sequence[str] = ()  # lines on data left out, for the screen and the summary
    fingerprint: Mapping[str, str] = MappingProxyType({})  # name -> SHA-256 of each file it reads

    @abstractmethod
    def train_batch(self, step: int) -> Batch:
        """The training batch of a step: always the same for the same seed."""

    @abstractmethod
    def validation(self) -> list[Batch]:
        """The same batches every time it is asked, whatever the seed."""

    def validation_again(self) -> list[Batch]:
        """Other companies, as fixed as those of `validation`; [] if the market has no others."""
        return []

    def answer(self, batch: Batch) -> Tensor | None:
        """Mark the days that decide each company's answer, (B, T) bool; None if they are unknown.

        The answer needs all of them.
        """
        return None

    def score(self, prediction: Tensor, y: Tensor) -> dict[str, Tensor]:
        """What suits this market beside the errors: (B, K), (B, K) to named values (B,)."""
        return {}

    def baselines(self) -> dict[str, float]:
        """Losses on validation, by name, of what no model here has to fit: closed forms."""
        return {}

    def in_words(self, value: float) -> str:
        """A price or return as the examples at the end of a run show it."""
        return f"{value:.3g}"


def on_day(batch: Batch, day: int) -> Tensor:
    """Mark one day, counted from 0, of every company: (B, T) bool."""
    return (batch.days == day).expand(len(batch.x), -1)


def check_ages(min_days: int, max_days: int) -> None:
    """Raise SettingError where the oldest company would be younger than the youngest."""
    if max_days < min_days:
        raise SettingError(
            f"data.max_days {max_days} is shorter than data.min_days {min_days}; "
            f"allowed: at least data.min_days"
        )


class SyntheticMarket(Market):
    """Companies aged min_days to max_days, all ages equally likely, like ages in one batch."""

    def __init__(self, min_days: int, max_days: int, batch_size: int, seed: int) -> None:
        check_ages(min_days, max_days)
        self.min_days, self.max_days = min_days, max_days
        self.batch_size, self.seed = batch_size, seed

    @abstractmethod
    def histories(self, rng: np.random.Generator, ages: np.ndarray) -> tuple[np.ndarray, ...]:
        """For ages (B,): prices (B, T) or (B, T, F), and the next day's values (B,) or (B, K).

        Where the answers are classes, it returns those of every day, (B, T), -1 for none. T is the
        age of the oldest. What comes after a company's last day is ignored.
        """

    def train_batch(self, step: int) -> Batch:
        """The training batch of a step: always the same for the same seed."""
        rng = np.random.default_rng([self.seed, TRAIN, step])
        youngest, oldest = self._band(
            int(rng.integers(self.min_days, self.max_days, endpoint=True))
        )
        ages = rng.integers(youngest, oldest, self.batch_size, endpoint=True)
        return self._batch(rng, ages)

    def validation(self) -> list[Batch]:
        """256 companies, their ages evenly spread; the same ones whatever the seed."""
        return self._held_out(np.random.default_rng(VALIDATION))

    def validation_again(self) -> list[Batch]:
        """256 others."""
        return self._held_out(np.random.default_rng([0, VALIDATION_AGAIN]))

    def _held_out(self, rng: np.random.Generator) -> list[Batch]:
        ages = np.linspace(self.min_days, self.max_days, VALIDATION_COMPANIES).round().astype(int)
        return [self._batch(rng, some) for some in np.split(ages, 4)]

    def _band(self, age: int) -> tuple[int, int]:
        """The ages that share a batch with `age`: bands a fifth wide tile all ages.

        A batch's band is that of a uniformly drawn age, so that over batches ages are uniform.
        """
        youngest = self.min_days
        while (oldest := max(youngest, int(1.2 * youngest))) < age:
            youngest = oldest + 1
        return youngest, min(oldest, self.max_days)

    def _batch(self, rng: np.random.Generator, ages: np.ndarray) -> Batch:
        prices, tomorrow = self.histories(rng, ages)
        x = prices.reshape(*prices.shape[:2], self.input_size)
        traded = np.arange(x.shape[1]) < ages[:, None]
        x = np.where(traded[..., None], x, 0).astype(np.float32)
        if self.loss == "mse":
            y = tomorrow.reshape(len(tomorrow), self.output_size).astype(np.float32)
        else:
            y = np.where(traded, tomorrow, -1).astype(np.int64)
        batch = Batch(torch.from_numpy(x), torch.from_numpy(ages), torch.from_numpy(y))
        return batch.of_last_day() if self.labels == "last" else batch


def youngest_age(min_days: int | None, max_days: int) -> int:
    """Return min_days, or where it is null the T of which max_days is T + T/10, as in papers."""
    return max_days * 10 // 11 if min_days is None else min_days


def rises(prediction: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Return whether the nearer of low (0) and high (1) was predicted, where those are answers."""
    right = ((prediction > 0.5) == (y > 0.5)).double()
    return {"accuracy": right.where(~prediction.isnan(), torch.nan).mean(1)}


def all_within(tolerance: float, prediction: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Return whether the error of every output is below a paper's tolerance."""
    error = (prediction - y).abs().amax(1)  # nan where an output is
    return {"accuracy": (error < tolerance).double().where(~error.isnan(), torch.nan)}


def direction(prediction: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Return whether the sign of a return was predicted; a return of exactly 0 counts as a half."""
    agree = torch.sign(prediction) * torch.sign(y)
    right = ((agree + 1) / 2).double()
    return {"direction": right.where(~prediction.isnan(), torch.nan).mean(1)}
