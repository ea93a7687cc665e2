"""Adding: of all the values two are marked, and the answer is their sum.

From Hochreiter and Schmidhuber, "Long Short-Term Memory" (Neural Computation 9, 1997), section 5.4,
and as most have used it since: Le, Jaitly and Hinton (arXiv:1504.00941), Arjovsky, Shah and Bengio
(arXiv:1511.06464), who put one mark into each half, and Bai, Kolter and Koltun (arXiv:1803.01271;
github.com/locuslab/TCN, TCN/adding_problem/utils.py), who put both anywhere.
"""

from typing import Annotated, Literal

import numpy as np
from torch import Tensor

from statland.batch import Batch
from statland.data.base import Companies, Days, SyntheticMarket, all_within, youngest_age
from statland.settings import Range, SettingError

# "A sequence is processed correctly if the absolute error at the sequence end is below 0.04."
TOLERANCE = 0.04

FIRST_DAYS = 10  # X1 is one of them

RANGES = {"sum": (0.0, 1.0), "anywhere": (0.0, 1.0), "hochreiter": (-1.0, 1.0)}


class Adding(SyntheticMarket):
    """Two inputs a day: a value, and a mark that is 1 on two days.

    sum: values are uniform in [0, 1], one mark stands in each half of the history, and the answer
    is X1 + X2. The best constant forecast, 1, has a mean squared error of 1/6.

    anywhere: the same, but for the marks: they stand on any two days.

    hochreiter: values are uniform in [-1, 1]. X1 is one of the first 10 days (of less than 20: of
    the first half), and X2 one of the first T/2 - 1 that are then left, T being min_days: so X2 is
    at least T/2 days back. The marks of the first and the last day are -1. A first day that was
    chosen keeps -1 and its value is 0. The answer is 0.5 + (X1 + X2) / 4.

    Training draws new sequences at every step, or, with `sequences`, goes through so many of them
    in the same order again and again.
    """

    input_size = 2

    def __init__(
        self,
        min_days: Days | None,
        max_days: Days,
        batch_size: Companies,
        convention: Literal["sum", "anywhere", "hochreiter"],
        sequences: Annotated[int, Range(1, 10**9)] | None,
        seed: int,
    ) -> None:
        super().__init__(youngest_age(min_days, max_days), max_days, batch_size, seed)
        self.convention, self.sequences = convention, sequences
        fewest = 4 if convention == "hochreiter" else 2  # then both are in the first half
        if self.min_days < fewest:
            raise SettingError(
                f"data.min_days is {self.min_days}; allowed: at least {fewest} where "
                f"data.convention is {convention}"
            )

    def train_batch(self, step: int) -> Batch:
        """The training batch of a step; the last of a round holds what is left of `sequences`."""
        if self.sequences is None:
            return super().train_batch(step)
        step %= -(-self.sequences // self.batch_size)
        left = self.sequences - step * self.batch_size
        return Batch(*(values[:left] for values in super().train_batch(step)))

    def answer(self, batch: Batch) -> Tensor:
        """The marked days; a first day that was chosen, whose value is 0, is none."""
        return batch.x[..., 1] == 1

    def histories(self, rng: np.random.Generator, ages: np.ndarray) -> tuple[np.ndarray, ...]:
        """For ages (B,): values and marks (B, T, 2), and the answers (B,)."""
        each = np.arange(len(ages))
        values = rng.uniform(*RANGES[self.convention], (len(ages), int(ages.max())))
        marks = np.zeros_like(values)
        first, second = self._marked(rng, ages)
        marks[each, first] = marks[each, second] = 1
        if self.convention == "hochreiter":
            values[marks[:, 0] == 1, 0] = 0
            marks[:, 0] = marks[each, ages - 1] = -1
        total = values[each, first] + values[each, second]
        answer = 0.5 + total / 4 if self.convention == "hochreiter" else total
        return np.stack([values, marks], axis=2), answer

    def _marked(self, rng: np.random.Generator, ages: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The two days (B,) of each company, counted from 0."""
        if self.convention == "sum":
            return rng.integers(0, ages // 2), rng.integers(ages // 2, ages)
        half = self.min_days // 2
        anywhere = self.convention == "anywhere"
        first = rng.integers(0, ages if anywhere else min(FIRST_DAYS, half), len(ages))
        second = rng.integers(0, (ages if anywhere else half) - 1, len(ages))
        return first, second + (second >= first)  # past the day that is marked already

    def score(self, prediction: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Whether the error is below 0.04."""
        return all_within(TOLERANCE, prediction, y)
