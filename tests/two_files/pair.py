"""Two prices a day, and three values to predict: a market of any number of inputs and outputs."""

from typing import Annotated

import numpy as np
from torch import Tensor

from statland.batch import Batch
from statland.data.base import Companies, Days, SyntheticMarket
from statland.settings import Range

Levels = Annotated[int, Range(2, 100)]


class Pair(SyntheticMarket):
    """Two shares whose prices are drawn afresh each day.

    The three answers: the first share's first price, the second share's last one, and their sum.
    """

    input_size, output_size = 2, 3

    def __init__(
        self, min_days: Days, max_days: Days, batch_size: Companies, levels: Levels, seed: int
    ) -> None:
        super().__init__(min_days, max_days, batch_size, seed)
        self.levels = levels

    def answer(self, batch: Batch) -> Tensor:
        """The first day and the last."""
        return (batch.days == 0) | (batch.days == batch.lengths[:, None] - 1)

    def histories(self, rng: np.random.Generator, ages: np.ndarray) -> tuple[np.ndarray, ...]:
        """For ages (B,): prices (B, T, 2) and the three answers (B, 3)."""
        prices = rng.integers(self.levels, size=(len(ages), ages.max(), 2)) / (self.levels - 1)
        first, last = prices[:, 0, 0], prices[np.arange(len(ages)), ages - 1, 1]
        return prices, np.stack([first, last, first + last], axis=1)
