"""Temporal order: which of two symbols came first, and which next?

From Hochreiter and Schmidhuber, "Long Short-Term Memory" (Neural Computation 9, 1997), section 5.6,
tasks 6a and 6b.
"""

from typing import Literal

import numpy as np
from torch import Tensor

from statland.batch import Batch
from statland.data.base import Companies, Days, SyntheticMarket, all_within, youngest_age
from statland.settings import SettingError

# The inputs, one-hot. A history begins with E, ends with the trigger B, and has X or Y on two or
# three days; all other days are a, b, c or d.
SYMBOLS = ("E", "a", "b", "c", "d", "X", "Y", "B")
E, A, D, X, B = (SYMBOLS.index(symbol) for symbol in "EadXB")

Task = Literal["6a", "6b"]

# A window begins at these parts of T, and is T/10 days longer than one: of 100 days 10 to 20 and 50
# to 60 (6a), or 10 to 20, 33 to 43 and 66 to 76 (6b).
WINDOWS = {"6a": ((1, 10), (1, 2)), "6b": ((1, 10), (1, 3), (2, 3))}

# "Classified correctly if the final absolute error of all output units is below 0.3."
TOLERANCE = 0.3


class TemporalOrder(SyntheticMarket):
    """Eight inputs, a symbol a day; the answer is one-hot, a class for each order of Xs and Ys.

    The classes are numbered as the orders are written: XX, XY, YX, YY, or XXX, XXY, ... YYY. Where
    the symbols can stand follows from T, which is min_days; the paper's 100 to 110 days are
    min_days=100 max_days=110. The best constant forecast, 1/K for each of K classes, has a mean
    squared error of (1 - 1/K) / K: 3/16 or 7/64.
    """

    input_size = len(SYMBOLS)

    def __init__(
        self, min_days: Days | None, max_days: Days, batch_size: Companies, task: Task, seed: int
    ) -> None:
        super().__init__(youngest_age(min_days, max_days), max_days, batch_size, seed)
        symbols = len(WINDOWS[task])
        if self.min_days < symbols + 2:
            raise SettingError(
                f"data.min_days is {self.min_days}; allowed: at least {symbols + 2} where "
                f"data.task is {task}: a day for each symbol"
            )
        self.output_size = 2**symbols
        self.windows = windows(self.min_days, task)

    def answer(self, batch: Batch) -> Tensor:
        """The days of X and Y."""
        return batch.x[..., X : X + 2].any(2)

    def histories(self, rng: np.random.Generator, ages: np.ndarray) -> tuple[np.ndarray, ...]:
        """For ages (B,): one-hot symbols (B, T, 8) and one-hot classes (B, 4) or (B, 8)."""
        each = np.arange(len(ages))
        written = rng.integers(A, D, (len(ages), int(ages.max())), endpoint=True)
        written[:, 0], written[each, ages - 1] = E, B
        order = np.zeros(len(ages), dtype=int)
        for first, last in self.windows:
            is_y = rng.integers(0, 2, len(ages))
            written[each, rng.integers(first, last, len(ages), endpoint=True) - 1] = X + is_y
            order = 2 * order + is_y
        return np.eye(len(SYMBOLS))[written], np.eye(self.output_size)[order]

    def score(self, prediction: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Whether every output's error is below 0.3."""
        return all_within(TOLERANCE, prediction, y)


def windows(days: int, task: str) -> list[tuple[int, int]]:
    """The first and the last day, counted from 1, on which each symbol can stand.

    In histories too short for the paper's they move behind day 1, and one behind the other.
    """
    found = [(1, 1)]
    for part, of in WINDOWS[task]:
        first = max(days * part // of, found[-1][1] + 1)
        found.append((first, first + days // 10))
    return found[1:]
