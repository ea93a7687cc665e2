"""Errors, baselines and skill against sums done by hand."""

import numpy as np
import pytest
import torch
from conftest import built
from torch import Tensor, nn

from statland.batch import Batch
from statland.training.evaluation import baselines, evaluate, skill


class Says(nn.Module):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return x[:, 0]


def test_ragged_batches_are_averaged_over_companies() -> None:
    market, *_ = built("data=recall")
    batches = [
        Batch(torch.tensor([[[1.0]], [[0.0]], [[0.5]]]), torch.ones(3), torch.zeros(3, 1)),
        Batch(torch.tensor([[[3.0]]]), torch.ones(1), torch.tensor([[1.0]])),
    ]
    scores = evaluate(Says(), market, batches)
    assert scores["mse"] == pytest.approx((1 + 0 + 0.25 + 4) / 4)
    assert scores["mae"] == pytest.approx((1 + 0 + 0.5 + 2) / 4)
    assert scores["accuracy"] == pytest.approx(3 / 4)


def test_a_model_that_knows_the_answer_has_skill_one() -> None:
    market, *_ = built("data=recall")
    scores = evaluate(Says(), market, market.validation())
    assert scores == {"mse": 0, "mae": 0, "accuracy": 1}
    assert skill(0.0, baselines(market)) == 1


def test_direction_counts_signs() -> None:
    market, *_ = built("data=garch")
    y = torch.tensor([[1.0], [-1.0], [2.0], [0.0]])
    hit = market.score(torch.tensor([[0.1], [0.2], [3.0], [1.0]]), y)["direction"]
    assert hit.tolist() == [1, 0, 1, 0.5]


def test_skill() -> None:
    assert skill(0.1, {"a": 0.2, "b": 0.4}) == pytest.approx(0.5)
    assert skill(0.3, {"a": 0.2, "b": 0.4}) == pytest.approx(-0.5)
    assert skill(0.1, {"a": 1e-30, "b": 0.4}) is None
    assert skill(0.1, {"a": 9e-13, "b": 0.4}) is None  # what rounding leaves of 0
    assert skill(2e-11, {"a": 1e-11, "b": 0.4}) == pytest.approx(-1)  # small, not exact


@pytest.mark.parametrize("name", ["recall", "garch", "stocks"])
def test_baselines_against_numpy(name: str) -> None:
    market, *_ = built(f"data={name}", "data.min_days=1" if name == "garch" else "data.min_days=5")

    def last_days(batches: list[Batch]) -> np.ndarray:
        rows = []
        for x, lengths, y in batches:
            for history, age, tomorrow in zip(x[..., 0], lengths.tolist(), y[:, 0], strict=True):
                yesterday = history[age - 2] if age > 1 else history[age - 1]
                rows.append([history[age - 1].item(), yesterday.item(), tomorrow.item()])
        return np.array(rows)

    train = last_days([market.train_batch(step) for step in range(64)])
    test = last_days(market.validation())
    design = np.column_stack([np.ones(len(train)), train[:, :2]])
    solution = np.linalg.lstsq(design, train[:, 2], rcond=None)[0]
    ar2 = np.column_stack([np.ones(len(test)), test[:, :2]]) @ solution
    y = test[:, 2]
    expected = {
        "constant": np.mean((train[:, 2].mean() - y) ** 2),
        "persistence": np.mean((test[:, 0] - y) ** 2),
        "ar2": np.mean((ar2 - y) ** 2),
    }
    if name != "recall":
        expected["zero"] = np.mean(y**2)
    assert baselines(market) == pytest.approx(expected, rel=1e-9)
