"""Pairs: keys and their values, and then the keys again, in another order.

The multi-query associative recall of S. Arora, S. Eyuboglu et al., "Zoology: measuring and
improving recall in efficient language models", ICLR 2024 (github.com/HazyResearch/zoology,
zoology/data/multiquery_ar.py), with two differences: a question may come on any day after the
pairs, theirs on every second, and the last day is always one.
"""

from typing import Annotated

import numpy as np
from torch import Tensor

from statland.batch import Batch
from statland.data.base import Companies, Days, SyntheticMarket
from statland.settings import Range, SettingError


class Pairs(SyntheticMarket):
    """A word a day, one-hot of `vocabulary`, the first half of which are keys, the others values.

    A history begins with `pairs` different keys, each followed by its value. On as many later days,
    the last among them, each key comes again and its value is asked for. On the others any word is
    traded and nothing is asked. Guessing a value has a cross-entropy of log(vocabulary / 2).

    The days of the questions, but for the last, are drawn without replacement: the g-th day after
    the pairs with a probability in proportion to g^(gap_power - 1), all alike if gap_power is 1.
    """

    loss, labels = "cross_entropy", "every"

    def __init__(
        self,
        min_days: Days,
        max_days: Days,
        batch_size: Companies,
        pairs: Annotated[int, Range(1, 2**10)],
        vocabulary: Annotated[int, Range(2, 2**12)],
        seed: int,
        gap_power: Annotated[float, Range(0, 1)] = 1.0,
    ) -> None:
        super().__init__(min_days, max_days, batch_size, seed)
        self.pairs, self.keys, self.gap_power = pairs, vocabulary // 2, gap_power
        if min_days < 3 * pairs:
            raise SettingError(
                f"data.min_days is {min_days}; allowed: at least {3 * pairs}, for {pairs} keys, "
                f"their values, and the keys again"
            )
        if self.keys < pairs:
            raise SettingError(
                f"data.vocabulary is {vocabulary}; allowed: at least {2 * pairs} for {pairs} pairs"
            )
        self.input_size = self.output_size = vocabulary

    def answer(self, batch: Batch) -> Tensor:
        """The day of the value that belongs to the key of the last day."""
        words = batch.x.argmax(2)
        last = words.gather(1, batch.lengths[:, None] - 1)
        is_key = (words == last) & (batch.days < 2 * self.pairs) & (batch.days % 2 == 0)
        return is_key.roll(1, 1)

    def histories(self, rng: np.random.Generator, ages: np.ndarray) -> tuple[np.ndarray, ...]:
        """For ages (B,): one-hot words (B, T, V), and the values that are asked for (B, T)."""
        companies, days, stored = len(ages), int(ages.max()), 2 * self.pairs
        words = rng.integers(0, self.input_size, (companies, days))
        asked = np.full_like(words, -1)
        keys = rng.random((companies, self.keys)).argsort(1)[:, : self.pairs]
        values = rng.integers(self.keys, self.input_size, keys.shape)
        words[:, 0:stored:2], words[:, 1:stored:2] = keys, values
        # The last day comes first, then those between by waiting times: exponential of such rates.
        gaps = (np.arange(days) - stored + 1).clip(min=1)
        order = -np.log1p(-rng.random((companies, days))) * gaps ** (1 - self.gap_power)
        order[:, :stored] = order[np.arange(days) >= ages[:, None]] = np.inf
        order[np.arange(companies), ages - 1] = -1
        questions = order.argsort(1)[:, : self.pairs]
        which = rng.random(keys.shape).argsort(1)
        each = np.arange(companies)[:, None]
        words[each, questions], asked[each, questions] = keys[each, which], values[each, which]
        return np.eye(self.input_size)[words], asked
