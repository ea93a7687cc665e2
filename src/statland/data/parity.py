"""Parity: every day counts, and what it counts for depends on all days before it.

R. Grazzi, J. Siems, A. Zela, J. Franke, F. Hutter and M. Pontil, "Unlocking state-tracking in
linear RNNs through negative eigenvalues", ICLR 2025: a linear recurrence whose eigenvalues are all
positive cannot learn it at every length.
"""

import numpy as np
from torch import Tensor

from statland.batch import Batch
from statland.data.base import Companies, Days, Labels, SyntheticMarket, on_day


class Parity(SyntheticMarket):
    """Each day is low (0) or high (1), at even chance; class 1 if the highs so far are odd, else 0.

    Whoever leaves out a day can only guess: a cross-entropy of log 2.
    """

    output_size, loss = 2, "cross_entropy"

    def __init__(
        self, min_days: Days, max_days: Days, batch_size: Companies, labels: Labels, seed: int
    ) -> None:
        super().__init__(min_days, max_days, batch_size, seed)
        self.labels = labels

    def answer(self, batch: Batch) -> Tensor:
        """The first day: all days count, and it is the farthest."""
        return on_day(batch, 0)

    def histories(self, rng: np.random.Generator, ages: np.ndarray) -> tuple[np.ndarray, ...]:
        """For ages (B,): prices and the parity so far, (B, T) each."""
        prices = rng.integers(0, 2, (len(ages), int(ages.max())))
        return prices, prices.cumsum(1) % 2
