"""Long lag: two sequences alike but for their first symbol, which comes again at the end.

Hochreiter and Schmidhuber, "Long Short-Term Memory" (Neural Computation 9, 1997), section 5.2, task
2a: noise-free sequences with long time lags.
"""

import math

import numpy as np
from torch import Tensor

from statland.batch import Batch
from statland.data.base import Companies, SyntheticMarket, TwoDays, on_day


class LongLag(SyntheticMarket):
    """The p + 1 symbols x, y and a_1 to a_{p-1}, one-hot, where p is `max_days`.

    A company trades (x, a_1, ..., a_{p-1}) and then x, or, at even chance, (y, a_1, ..., a_{p-1})
    and then y. Every day is asked for the next symbol. Whoever forgets the first day knows all but
    the last: `memoryless`, a mean cross-entropy of log 2 / p.
    """

    loss, labels = "cross_entropy", "every"

    def __init__(self, max_days: TwoDays, batch_size: Companies, seed: int) -> None:
        super().__init__(max_days, max_days, batch_size, seed)
        self.input_size = self.output_size = max_days + 1

    def baselines(self) -> dict[str, float]:
        """What knowing the day alone gives."""
        return {"memoryless": math.log(2) / self.max_days}

    def answer(self, batch: Batch) -> Tensor:
        """The first day."""
        return on_day(batch, 0)

    def histories(self, rng: np.random.Generator, ages: np.ndarray) -> tuple[np.ndarray, ...]:
        """For ages (B,): one-hot symbols (B, p, p + 1), and the symbols after each (B, p)."""
        symbols = np.tile(np.arange(1, self.max_days + 1), (len(ages), 1))  # a_i is number i + 1
        symbols[:, 0] = rng.integers(0, 2, len(ages))  # x is 0, y is 1
        return np.eye(self.input_size)[symbols], np.roll(symbols, -1, axis=1)
