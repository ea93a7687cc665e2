"""Importance of days against the closed form of a linear readout of known weights."""

import math

import pytest
import torch
from torch import Tensor, nn

from statland.batch import Batch
from statland.gradients.importance import day_importance, importance, importance_by_lag
from statland.models.base import SequenceModel


class Weighted(SequenceModel):
    """The prediction is a weighted sum of the days, and of the features of each."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)  # (T, F, K)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return torch.einsum("btf,tfk->bk", x, self.weights[: x.shape[1]])


def data(companies: int = 6, days: int = 5) -> Batch:
    x = torch.randn(companies, days, 2).double()
    return Batch(x, torch.full((companies,), days), torch.randn(companies, 1).double())


def expected(model: Weighted, batch: Batch, day: int) -> float:
    """By the definition, pair by pair: w_day (x_c - x_b) over the difference of the predictions."""
    changes, aparts = [], []
    p = model(batch.x, batch.lengths)
    for b in range(len(batch.x)):
        for c in range(len(batch.x)):
            if b != c:
                moved = batch.x[c, day] - batch.x[b, day]
                changes.append((moved[:, None] * model.weights[day]).sum(0))
                aparts.append(p[c] - p[b])
    change, apart = (torch.stack(v).square().mean().item() for v in (changes, aparts))
    return math.sqrt(change / apart)


def test_a_linear_readout() -> None:
    batch = data()
    model = Weighted(torch.randn(5, 2, 3).double())
    same = torch.zeros(6, dtype=torch.long)
    for day in range(5):
        found = day_importance(model, batch.x, torch.full((6,), day), same)
        assert found == pytest.approx(expected(model, batch, day), rel=1e-9)
        assert importance_by_lag(model, batch.x, 4 - day, batch.lengths) == pytest.approx(found)


def test_the_least_important_of_the_answer_s_days_counts() -> None:
    weights = torch.zeros(5, 2, 1).double()
    weights[0], weights[3] = 2.0, 0.5
    model, batch = Weighted(weights), data()
    answer = torch.zeros(6, 5, dtype=torch.bool)
    answer[:, [0, 3]] = True
    assert importance(model, batch.x, answer) == pytest.approx(expected(model, batch, 3))
    answer[:, 1] = True  # a day that is ignored
    assert importance(model, batch.x, answer) == 0
    answer[:] = False
    answer[:, 0] = True
    alone = Weighted(torch.zeros(5, 2, 1).double().index_fill(0, torch.tensor([0]), 1.0))
    assert importance(alone, batch.x, answer) == pytest.approx(1)


def test_days_are_exchanged_with_the_same_of_companies_that_have_as_many() -> None:
    """The second company's answer is on other days, the third has one day more."""
    batch = data(3)
    answer = torch.tensor([[1, 0, 0, 1, 0], [0, 1, 0, 0, 1], [1, 1, 1, 0, 0]]).bool()
    model = Weighted(torch.randn(5, 2, 1).double())
    p = model(batch.x, batch.lengths)
    apart = (p[1] - p[0]).abs().item()
    changes = []
    for one, other in ((0, 1), (1, 0)):
        found = []
        for place in (0, 1):
            days = [row.nonzero().flatten()[place] for row in answer]
            x = batch.x.clone()
            x[one, days[one]] = batch.x[other, days[other]]
            found.append((model(x, batch.lengths)[one] - p[one]).item() ** 2)
        changes.append(found)
    by_place = [math.sqrt((a + b) / 2) / apart for a, b in zip(*changes, strict=True)]
    assert importance(model, batch.x, answer) == pytest.approx(min(by_place))


def test_what_has_no_importance() -> None:
    batch, same = data(), torch.zeros(6, dtype=torch.long)
    constant = Weighted(torch.zeros(5, 2, 1).double())
    assert day_importance(constant, batch.x, same, same) == 0
    equal = batch._replace(y=torch.ones(6, 1).double())
    assert day_importance(constant, equal.x, same, same, y=equal.y) == 0
    one = Batch(*(part[:1] for part in batch))
    assert importance_by_lag(constant, one.x, 0, one.lengths) is None
    assert importance_by_lag(constant, batch.x, 5, batch.lengths) is None
    answer = torch.zeros(6, 5, dtype=torch.bool)
    assert importance(constant, batch.x, answer) is None


def test_a_prediction_that_is_nan_is_left_out() -> None:
    batch = data()
    model = Weighted(torch.randn(5, 2, 1).double())
    same = torch.zeros(6, dtype=torch.long)
    group = torch.tensor([-1, 0, 0, 0, 0, 0])
    without = day_importance(model, batch.x, same, group)
    batch.x[0, 1] = math.nan
    assert day_importance(model, batch.x, same, same) == pytest.approx(without)


def test_classes_are_compared_as_probabilities() -> None:
    """Two classes with logits 0 and a sum over days, against sums over pairs."""
    weights = torch.zeros(3, 1, 2).double()
    weights[:2, 0, 1] = torch.tensor([1.7, -0.6])
    model, x, y = Weighted(weights), torch.randn(5, 3, 1).double(), torch.tensor([0, 1, 1, 0, 1])

    def odds(first: int, then: int) -> float:
        return (1.7 * x[first, 0, 0] - 0.6 * x[then, 1, 0]).sigmoid().item()

    pairs = [(b, c) for b in range(5) for c in range(5) if b != c]
    change = sum((odds(c, b) - odds(b, b)) ** 2 for b, c in pairs)
    apart = sum((odds(c, c) - odds(b, b)) ** 2 for b, c in pairs)
    found = importance(model, x, torch.eye(3, dtype=torch.bool)[:1].expand(5, -1), y=y)
    assert found == pytest.approx(math.sqrt(change / apart), rel=1e-9)
