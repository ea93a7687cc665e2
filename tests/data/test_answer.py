"""The days that a market marks decide its answer, each of them and no other."""

from collections.abc import Callable

import pytest
import torch
from conftest import built
from torch import Tensor

from statland.data.temporal_order import SYMBOLS
from statland.training.watch import span_of

X, Y = SYMBOLS.index("X"), SYMBOLS.index("Y")
HOCHREITER = ("data.convention=hochreiter", "data.min_days=null", "data.max_days=110")


def of_order(days: Tensor) -> Tensor:
    """The class of the symbols, in the order of their days."""
    digits = days[:, [X, Y]].argmax(1).tolist()
    place = sum(digit * 2 ** (len(digits) - 1 - i) for i, digit in enumerate(digits))
    return torch.eye(2 ** len(digits))[place]


# By market: its answer from the marked days alone, (days, F) to (K,), and its farthest day.
RULES: dict[tuple[str, ...], tuple[Callable[[Tensor], Tensor], int]] = {
    ("recall",): (lambda days: days[0], 49),
    ("recall", "data.filler=hard", "data.min_days=5"): (lambda days: days[0], 49),
    **{
        ("statland", f"data.shock={shock}"): (lambda days: (2 * days[1] - days[0]).clamp(0, 1), 1)
        for shock in (0, 0.5, 1)
    },
    ("adding", "data.max_days=50"): (lambda days: days[:, :1].sum(0), 49),
    ("adding", *HOCHREITER): (lambda days: 0.5 + days[:, :1].sum(0) / 4, 108),
    ("temporal_order", "data.min_days=null", "data.max_days=110"): (of_order, 100),
    ("temporal_order", "data.task=6b", "data.min_days=30", "data.max_days=30"): (of_order, 27),
}


@pytest.mark.parametrize("overrides", RULES, ids=" ".join)
def test_the_answer_follows_from_the_marked_days_and_from_each_of_them(
    overrides: tuple[str, ...],
) -> None:
    market = built(f"data={overrides[0]}", *overrides[1:], "data.batch_size=64")[0]
    rule, farthest = RULES[overrides]
    batches = [market.train_batch(step) for step in range(60)]
    decides = set()
    for batch in batches:
        marked = [x[days] for x, days in zip(batch.x, market.answer(batch), strict=True)]
        for days, other, y in zip(marked, marked[1:] + marked[:1], batch.y, strict=True):
            torch.testing.assert_close(rule(days), y)
            for place in range(min(len(days), len(other))):
                changed = days.clone()
                changed[place] = other[place]
                decides |= {place} if not torch.allclose(rule(changed), y) else set()
    assert decides == set(range(max(map(len, marked))))
    assert span_of(market.answer, batches) == farthest
