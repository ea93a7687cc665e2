"""Recall: only the first day tells which company it is, and the day after the last repeats it.

From "Long Short-Term Memory, clearly explained" (StatQuest): company A trades 0, 0.5, 0.25, 1 and
then 0; company B trades 1, 0.5, 0.25, 1 and then 1.
"""

from typing import Literal

import numpy as np
from torch import Tensor

from statland.batch import Batch
from statland.data.base import Companies, Days, SyntheticMarket, TwoDays, on_day, rises

Filler = Literal["easy", "hard"]
FILLERS = {"easy": [0.25, 0.5], "hard": [0.0, 0.5, 1.0]}


class Recall(SyntheticMarket):
    """Companies A and B, half of each, at any age.

    `filler` says what is traded after day 1. easy: 0.25 or 0.5, and 1 on the last day, as in
    StatQuest. hard: 0, 0.5 or 1, so that nothing but its place tells day 1 from the others. The
    best constant forecast, 0.5, has a mean squared error of 0.25.
    """

    score = staticmethod(rises)

    def __init__(
        self, min_days: TwoDays, max_days: Days, batch_size: Companies, filler: Filler, seed: int
    ) -> None:
        super().__init__(min_days, max_days, batch_size, seed)
        self.filler = filler

    def answer(self, batch: Batch) -> Tensor:
        """The first day."""
        return on_day(batch, 0)

    def histories(self, rng: np.random.Generator, ages: np.ndarray) -> tuple[np.ndarray, ...]:
        """For ages (B,), prices (B, T) and tomorrow's (B,)."""
        companies, days = len(ages), int(ages.max())
        each = np.arange(companies)
        first = (each + rng.integers(2)) % 2
        prices = rng.choice(FILLERS[self.filler], (companies, days))
        if self.filler == "easy":
            prices[each, ages - 1] = 1.0
        prices[:, 0] = first
        return prices, first
