"""Copying: ten symbols, a long pause, and then the ten symbols again.

M. Arjovsky, A. Shah and Y. Bengio, "Unitary evolution recurrent neural networks", ICML 2016, after
Hochreiter and Schmidhuber (1997). The days are laid out as in github.com/Lezcano/expRNN,
1_copying.py.
"""

import math

import numpy as np
import torch
from torch import Tensor

from statland.batch import Batch
from statland.data.base import Companies, Days, SyntheticMarket, on_day

SYMBOLS, TO_COPY = 8, 10  # so many different symbols, and so many days that have one
BLANK, MARK = 8, 9


class Copy(SyntheticMarket):
    """Ten inputs, one-hot: eight symbols, the blank and the mark; nine classes, all but the mark.

    A company trades ten symbols, `max_days` blanks (at least `min_days`), the mark, and nine
    blanks. Every day is asked: blank until the mark, and from its day on the ten symbols in their
    order. So a company is `max_days` + 20 days old. Whoever knows the day and forgets the symbols
    guesses ten times, `memoryless`: a mean cross-entropy of 10 log 8 / (T + 20) for T blanks.
    """

    input_size, output_size = SYMBOLS + 2, SYMBOLS + 1
    loss, labels = "cross_entropy", "every"

    def __init__(self, min_days: Days, max_days: Days, batch_size: Companies, seed: int) -> None:
        super().__init__(min_days + 2 * TO_COPY, max_days + 2 * TO_COPY, batch_size, seed)

    def baselines(self) -> dict[str, float]:
        """What knowing the day alone gives."""
        ages = torch.cat([batch.lengths for batch in self.validation()]).double()
        return {"memoryless": TO_COPY * math.log(SYMBOLS) / ages.mean().item()}

    def answer(self, batch: Batch) -> Tensor:
        """The day of the tenth symbol, which the last day asks for."""
        return on_day(batch, TO_COPY - 1)

    def histories(self, rng: np.random.Generator, ages: np.ndarray) -> tuple[np.ndarray, ...]:
        """For ages (B,): one-hot inputs (B, T, 10), and what each day asks for (B, T)."""
        each, order = np.arange(len(ages))[:, None], np.arange(TO_COPY)
        symbols = rng.integers(0, SYMBOLS, (len(ages), TO_COPY))
        written = np.full((len(ages), int(ages.max())), BLANK)
        asked = written.copy()
        written[:, :TO_COPY] = symbols
        marked = ages[:, None] - TO_COPY
        written[each, marked] = MARK
        asked[each, marked + order] = symbols
        return np.eye(self.input_size)[written], asked
