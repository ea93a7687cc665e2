"""A training loop of one's own, monitored: nothing of it changes, and a run folder is left."""

import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import contents, curves_of
from rich.console import Console
from torch import Tensor, nn

import statland
from statland.gradients import gradient_flow, importance, profile, share
from statland.records.files import read_flow
from statland.report import load
from statland.report.comparison import compare, figures, show
from statland.settings import SettingError

DAYS, IDS = 9, 5


class Noisy(nn.Module):
    """Predictions for each day of token ids; it draws random numbers in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.rnn = nn.Embedding(IDS, 4), nn.GRU(4, 4, batch_first=True)
        self.norm, self.head = nn.BatchNorm1d(4), nn.Linear(4, IDS)

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        days = self.norm(self.rnn(self.embedding(ids))[0].transpose(1, 2)).transpose(1, 2)
        return {"logits": self.head(days + 0 * nn.functional.dropout(days))}


PROBE, TARGET = torch.randint(IDS, (2, 6, DAYS), generator=torch.Generator().manual_seed(3))


ANSWER = (torch.arange(DAYS) == 0).expand(len(PROBE), -1)


def at_last(out: dict[str, Tensor]) -> Tensor:
    return out["logits"][:, -1]


def loss_of(logits: Tensor, target: Tensor = TARGET[:, 0]) -> Tensor:
    return nn.functional.cross_entropy(logits, target, reduction="none")


def trained(folder: Path | None, steps: int = 12, explode: bool = False) -> Noisy:
    """Trained on recalling the first token, monitored if there is a folder."""
    torch.manual_seed(0)
    random.seed(0)
    model, monitor = Noisy(), None
    if folder is not None:
        given: Any = {"log_dir": folder, "answer": ANSWER, "every": 5, "at": model.embedding}
        monitor = statland.Monitor(model, PROBE, None, loss_of, prediction=at_last, **given)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(steps):
        ids = torch.randint(IDS, (8, DAYS))
        loss = loss_of(at_last(model(ids)), ids[:, 0]).mean()
        optimizer.zero_grad()
        (loss * float("nan") if explode else loss).backward()
        if monitor is not None:
            monitor(step, loss=loss * float("nan") if explode else loss, validation=step * 0.1)
        optimizer.step()
    if monitor is not None:
        monitor.close()
    return model


def drawn() -> list[float]:
    return [torch.rand(()).item(), random.random()]


@pytest.mark.usefixtures("pictures")
def test_training_is_bit_identical_and_a_run_folder_is_left(tmp_path: Path) -> None:
    alone, then = trained(None), drawn()
    model = trained(tmp_path / "mine")
    assert then == drawn()
    for name, value in alone.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    names = {"run.json", "summary.json", "metrics.csv", "gradient_flow.csv"}
    assert names | {"profile.png", "heatmap.png"} < {p.name for p in (tmp_path / "mine").iterdir()}
    identity = json.loads((tmp_path / "mine/run.json").read_text())
    assert identity["settings"]["data"]["max_days"] == DAYS
    assert identity["settings"]["parameters"] == sum(p.numel() for p in model.parameters())

    assert list(read_flow(tmp_path / "mine")) == [0, 5, 10, 12]
    metrics = pd.read_csv(tmp_path / "mine/metrics.csv").set_index(["tag", "step"]).value
    for tag in ("gradient/log10_norm", "update_ratio/head.bias", "norm_of_parameter/head.bias"):
        assert metrics[tag].index.tolist() == list(range(12))
    assert set(metrics.index.levels[0]) <= set(curves_of(tmp_path / "mine"))


def test_what_is_recorded_is_what_the_functions_return(tmp_path: Path) -> None:
    """Of the trained model, whose last gradient is still in place."""
    model = trained(tmp_path / "a")
    metrics = pd.read_csv(tmp_path / "a/metrics.csv").set_index(["tag", "step"]).value
    whole = torch.cat([p.grad.flatten() for p in model.parameters()]).double().norm().item()
    assert metrics["norm/total", 11] == pytest.approx(whole)
    flow = gradient_flow(model, PROBE, loss=loss_of, at=model.embedding, prediction=at_last)
    median = read_flow(tmp_path / "a")[12]["x"].median
    torch.testing.assert_close(median, profile(flow.log10["x"]).median)
    after = json.loads((tmp_path / "a/summary.json").read_text())["gradient"]["after"]
    assert after["answer_share"] == pytest.approx(share(flow, ANSWER))
    used = importance(model, PROBE, ANSWER, prediction=at_last)
    assert after["answer_importance"] == pytest.approx(used) != 0


def test_it_is_compared_beside_the_bench_s_own(tmp_path: Path) -> None:
    trained(tmp_path / "own")
    trained(tmp_path / "lost", steps=3, explode=True)
    runs = load(tmp_path)
    assert runs.attrs["skipped"] == []
    assert runs.status.tolist() == ["diverged", "completed"]
    compared = compare(runs)
    show(compared, Console(quiet=True))
    assert {"strips", "validation"} <= set(figures(compared.groups))


def test_a_second_run_adds_nothing_to_the_first(tmp_path: Path) -> None:
    trained(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(SettingError, match="holds a run already; allowed: a new folder"):
        trained(tmp_path)
    assert contents(tmp_path) == before
