"""The smallest and the largest sizes train, probe, save and resume; so does what was killed."""

import itertools
import json
import math
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from conftest import PAIRS, extends, ran, same_run

from statland.records import checkpoint
from statland.training import fit

# One model and one precision per size, or per sizes that do not interfere.
SIZES = {
    "rnn_cell float32 data=garch data.min_days=1 data.max_days=1": False,
    "lstm float64 data=stocks data.min_days=1 data.max_days=1 model.hidden_size=1": False,
    "rnn float32 model.num_layers=5 data.batch_size=1": False,
    "rnn_cell float64 data=recall data.batch_size=1000": False,
    "rnn float64 data.min_days=5000 data.max_days=5000 data.batch_size=4": True,
    "rnn_cell float32 model.hidden_size=512 data.batch_size=8": True,
}
CASES = [pytest.param(s, marks=[pytest.mark.slow] if slow else []) for s, slow in SIZES.items()]


@pytest.mark.parametrize("size", CASES)
def test_every_size_is_extended_as_if_it_had_not_been_stopped(size: str, tmp_path: Path) -> None:
    model, dtype, *settings = size.split()
    settings += [f"model={model}", f"dtype={dtype}", "log_every=1", "probe_every=2"]
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


@pytest.mark.parametrize(
    ("model", "market"),
    [  # a few pairs in the fast tests, each of both in the slow ones
        pytest.param(*pair, marks=[] if place % 5 == 0 else pytest.mark.slow)
        for place, pair in enumerate(PAIRS)
    ],
)
def test_a_killed_run_equals_one_that_was_not(model: str, market: str, tmp_path: Path) -> None:
    settings = (f"model={model}", f"data={market}", "data.max_days=12")
    often = ("log_every=1", "probe_every=2", "checkpoint_every=2", "validate_every=3", "steps=8")
    ran(tmp_path / "whole", *settings, *often)
    killed(tmp_path / "killed", *settings, *often)
    assert checkpoint.load(tmp_path / "killed")["updates"] == 4
    ran(tmp_path / "killed", *settings, *often, resume=True)
    same_run(tmp_path / "whole", tmp_path / "killed")
