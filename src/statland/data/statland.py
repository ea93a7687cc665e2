"""StatLand: prices are low, medium or high, and tomorrow follows from the last two days.

From "Recurrent Neural Networks, clearly explained" (StatQuest).
"""

from typing import Annotated

import numpy as np
from torch import Tensor

from statland.batch import Batch
from statland.data.base import Companies, Days, SyntheticMarket, TwoDays, rises
from statland.settings import Range

LOW, MEDIUM, HIGH = 0.0, 0.5, 1.0
NAMES = {LOW: "low", MEDIUM: "medium", HIGH: "high"}

# (yesterday, today): tomorrow is clip(2 * today - yesterday, 0, 1).
RULES = {(LOW, LOW): LOW, (LOW, MEDIUM): HIGH, (HIGH, MEDIUM): LOW, (HIGH, HIGH): HIGH}


class StatLand(SyntheticMarket):
    """Every history ends in one of the four rules, which gives its tomorrow.

    The rule is absorbing (after two highs all is high), so each day before the last two is, with
    probability `shock`, a price drawn afresh instead. `noise` is the standard deviation of normal
    noise added to the inputs; tomorrow is free of it.
    """

    score = staticmethod(rises)

    def __init__(
        self,
        min_days: TwoDays,
        max_days: Days,
        batch_size: Companies,
        shock: Annotated[float, Range(0, 1)],
        noise: Annotated[float, Range(0, 1e6)],
        seed: int,
    ) -> None:
        super().__init__(min_days, max_days, batch_size, seed)
        self.shock, self.noise = shock, noise

    def answer(self, batch: Batch) -> Tensor:
        """The last two days."""
        ages = batch.lengths[:, None]
        return (batch.days < ages) & (batch.days >= ages - 2)

    def in_words(self, value: float) -> str:
        """low, medium or high; what noise has moved is a number."""
        return NAMES.get(value) or super().in_words(value)

    def histories(self, rng: np.random.Generator, ages: np.ndarray) -> tuple[np.ndarray, ...]:
        """For ages (B,), prices (B, T) and tomorrow's (B,)."""
        companies, days = len(ages), int(ages.max())
        prices = rng.choice([LOW, MEDIUM, HIGH], (days, companies))
        follows = rng.random((days, companies)) >= self.shock
        for day in range(2, days):
            price = np.minimum(2 * prices[day - 1] - prices[day - 2], HIGH)
            np.maximum(price, LOW, out=prices[day], where=follows[day])
        each = np.arange(companies)
        pairs = np.array(list(RULES))[(each + rng.integers(4)) % 4]
        prices[ages - 2, each], prices[ages - 1, each] = pairs.T
        tomorrow = np.clip(2 * pairs[:, 1] - pairs[:, 0], LOW, HIGH)
        if self.noise > 0:
            prices = prices + rng.normal(0, self.noise, prices.shape)
        return prices.T, tomorrow
