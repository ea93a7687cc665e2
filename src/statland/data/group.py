"""The word problem of a group: which element is the product of all days so far?

J. Siems, T. Carstensen, A. Zela, F. Hutter, M. Pontil and R. Grazzi, "DeltaProduct: improving
state-tracking in linear RNNs via Householder products" (arXiv:2502.10297), after W. Merrill, J.
Petty and A. Sabharwal, "The illusion of state in state-space models" (arXiv:2404.08819).
"""

from itertools import permutations
from typing import Literal

import numpy as np
from torch import Tensor

from statland.batch import Batch
from statland.data.base import Companies, Days, Labels, SyntheticMarket, on_day

Group = Literal["Z2", "Z60", "S3", "S5"]


class WordProblem(SyntheticMarket):
    """An element of the group a day, all equally likely, one-hot; the answer is their product.

    Z2 and Z60 are the integers modulo 2 and 60, S3 and S5 the permutations of three and of five
    things. The first day is the first factor. Whoever leaves out a day can only guess.
    """

    loss = "cross_entropy"

    def __init__(
        self,
        min_days: Days,
        max_days: Days,
        batch_size: Companies,
        group: Group,
        labels: Labels,
        seed: int,
    ) -> None:
        super().__init__(min_days, max_days, batch_size, seed)
        self.labels = labels
        self.table = multiplication_table(group)
        self.input_size = self.output_size = len(self.table)

    def answer(self, batch: Batch) -> Tensor:
        """The first day: all days count, and it is the farthest."""
        return on_day(batch, 0)

    def histories(self, rng: np.random.Generator, ages: np.ndarray) -> tuple[np.ndarray, ...]:
        """For ages (B,): one-hot elements (B, T, G), and the products so far (B, T)."""
        elements = rng.integers(0, self.input_size, (len(ages), int(ages.max())))
        products = elements.copy()
        for day in range(1, elements.shape[1]):
            products[:, day] = self.table[products[:, day - 1], elements[:, day]]
        return np.eye(self.input_size)[elements], products


def multiplication_table(group: str) -> np.ndarray:
    """Return a table (G, G): the number of the product of elements number i and j, i acting first.

    Element 0 is the identity.
    """
    order = int(group[1:])
    if group[0] == "Z":
        return np.add.outer(np.arange(order), np.arange(order)) % order
    elements = list(permutations(range(order)))
    number = {element: place for place, element in enumerate(elements)}
    return np.array([[number[tuple(b[i] for i in a)] for b in elements] for a in elements])
