"""Explosions are results; the smallest and the largest sizes train, probe, save and resume."""

import itertools
import json
import math
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import MARKETS, PAIRS, extends, ran, same_run

from statland.records import checkpoint
from statland.report import load
from statland.training import fit


def test_explosions_are_results(market_name: str, tmp_path: Path) -> None:
    """Gain 4, ReLU, no clipping, learning rate 1."""
    optimizer = ("adam", "sgd")[MARKETS.index(market_name) % 2]
    ran(
        tmp_path / "run",
        f"data={market_name}",
        "model=rnn_orthogonal",
        "model.init.gain=4",
        "model.nonlinearity=relu",
        "clip_norm=null",
        f"optimizer={optimizer}",
        "optimizer.lr=1",
        "steps=30",
        "log_every=1",
        "validate_every=15",
        "probe_every=30",
        "checkpoint_every=15",
    )
    text = (tmp_path / "run/summary.json").read_text()
    summary = json.loads(text, parse_constant=pytest.fail)  # NaN and Infinity are not JSON
    assert summary["status"] in ("completed", "diverged")
    table = pd.read_csv(tmp_path / "run/metrics.csv")
    losses = table[table.tag == "loss/train"].value
    assert len(losses) == summary["steps"]
    assert losses.max() > 1e3 or not losses.map(math.isfinite).all()
    # What was measured of the gradient before training is right, however large: 4 times a day.
    before = summary["gradient"]["before"]
    assert 0.2 < before["decay_per_day"] < math.log10(4) + 0.01
    assert checkpoint.load(tmp_path / "run") is not None
    assert load(tmp_path).status.tolist() == [summary["status"]]


SIZES = {
    "one day": ("data=garch", "data.min_days=1", "data.max_days=1"),
    "one day of stocks": ("data=stocks", "data.min_days=1", "data.max_days=1"),
    "5000 days": ("data.min_days=5000", "data.max_days=5000", "data.batch_size=4"),
    "one company": ("data.batch_size=1",),
    "1000 companies": ("data=recall", "data.batch_size=1000"),
    "one unit": ("model.hidden_size=1",),
    "512 units": ("model.hidden_size=512", "data.batch_size=8"),
    "five layers": ("model.num_layers=5", "data=stocks"),
}


def cases() -> list[object]:
    """One model and one precision per size."""
    kinds = itertools.cycle([("rnn_cell", "float32"), ("rnn", "float64"), ("lstm", "float32")])
    slow = ("5000 days", "512 units")
    found = zip(SIZES, kinds, strict=False)
    return [pytest.param(s, *k, marks=pytest.mark.slow if s in slow else []) for s, k in found]


@pytest.mark.parametrize(("size", "model", "dtype"), cases())
def test_every_size_is_extended_as_if_it_had_not_been_stopped(
    size: str, model: str, dtype: str, tmp_path: Path
) -> None:
    settings = (f"model={model}", f"dtype={dtype}", *SIZES[size], "log_every=1", "probe_every=1")
    whole = ran(tmp_path / "whole", *settings, "steps=3")
    ran(tmp_path / "resumed", *settings, "steps=1")
    resumed = ran(tmp_path / "resumed", *settings, "steps=3", resume=True)
    extends(tmp_path / "resumed", tmp_path / "whole")
    assert resumed["status"] == whole["status"] == "completed"
    assert json.dumps(resumed["gradient"]) == json.dumps(whole["gradient"])
    weights = checkpoint.load(tmp_path / "resumed")["model"].values()
    assert {weight.dtype for weight in weights} == {getattr(torch, dtype)}
    assert math.isfinite(resumed["validation"]["mse"])


def killed(folder: Path, *overrides: str) -> None:
    """A run whose process is killed at its sixth step, in the middle of its backward pass."""
    child = os.fork()
    if child == 0:
        calls, norm = itertools.count(1), fit.gradient_norm

        def until_the_sixth(parameters: Iterable[torch.nn.Parameter]) -> float:
            if next(calls) == 6:
                os.kill(os.getpid(), signal.SIGKILL)
            return norm(parameters)

        fit.gradient_norm = until_the_sixth
        ran(folder, *overrides)
        os._exit(1)  # it should not have come so far
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def every_model() -> list[object]:
    """A few pairs of model and market in the fast tests, each of both in the slow ones."""
    kinds = itertools.cycle(["float32", "float64"])
    pairs = [(*pair, dtype) for pair, dtype in zip(PAIRS, kinds, strict=False)]
    return [
        pytest.param(*pair, marks=[] if place % 5 == 0 else pytest.mark.slow)
        for place, pair in enumerate(pairs)
    ]


@pytest.mark.parametrize(("model", "market", "dtype"), every_model())
def test_a_killed_run_equals_one_that_was_not(
    model: str, market: str, dtype: str, tmp_path: Path
) -> None:
    settings = (f"model={model}", f"data={market}", f"dtype={dtype}", "data.max_days=12")
    often = ("log_every=1", "probe_every=2", "checkpoint_every=2", "validate_every=3", "steps=8")
    ran(tmp_path / "whole", *settings, *often)
    killed(tmp_path / "killed", *settings, *often)
    assert checkpoint.load(tmp_path / "killed")["updates"] == 4
    ran(tmp_path / "killed", *settings, *often, resume=True)
    same_run(tmp_path / "whole", tmp_path / "killed")
