"""Whole runs: what they leave behind, that they repeat, and that every setting acts."""

import json
import logging
import math
import re
from contextlib import suppress
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import FAMILIES, INITS, MARKETS, OPTIMIZERS, PAIRS, built, composed, ran, rows_of
from rich.console import Console

from statland.models.base import RecurrentModel, SequenceModel
from statland.records import checkpoint
from statland.records.identity import read_identity
from statland.settings import SettingError, flatten
from statland.training import screen, step_log
from statland.training.build import build
from statland.training.config import Settings, check
from statland.training.evaluation import baselines
from statland.training.fit import fit
from statland.training.watch import span_of

# The tags of every model, so that runs overlay.
PROFILE = ("decay_per_day", "first_to_last", "log10_error", "lost_companies", "reach_days")
COMMON = {"gradient/log10_norm", "loss/train", "loss/validation", "profile_lag/0"}
COMMON |= {"norm/clipped_fraction", "norm/nonfinite_steps", "norm/total"}
COMMON |= {f"profile_summary/{name}" for name in PROFILE}

DAYS = "data.max_days=8"
QUICK = ("steps=4", "log_every=2", "validate_every=3", "probe_every=2", DAYS)


def metrics(folder: Path) -> pd.DataFrame:
    """Every scalar but the speed, which no two runs share."""
    table = pd.read_csv(folder / "metrics.csv")
    return table[~table.tag.str.startswith("speed/")].reset_index(drop=True)


@pytest.mark.parametrize(("model_name", "market_name"), PAIRS)
def test_every_model_and_every_market(model_name: str, market_name: str, tmp_path: Path) -> None:
    overrides = (f"model={model_name}", f"data={market_name}")
    returned = ran(tmp_path, *QUICK, *overrides)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["status"] == returned["status"] == "completed"
    assert summary["steps"] == 4
    market, model, _ = built(f"data={market_name}", f"model={model_name}", QUICK[-1])
    assert summary["baselines"] == pytest.approx(baselines(market))
    assert summary["config"]["model"]["_target_"].endswith(type(model).__name__)
    assert {market.loss, "skill"} < set(summary["validation"])
    for when in ("before", "after"):
        gradient = summary["gradient"][when]
        assert {"decay_per_day", "answer_share", "answer_importance", "reach_days"} < set(gradient)
    assert summary["span"] == span_of(market.answer, market.validation())
    assert set(summary["provenance"]) == {"commit", "clean", "versions", "command"}

    table = metrics(tmp_path)
    by_tag = {tag: rows.set_index("step").value for tag, rows in table.groupby("tag")}
    assert list(by_tag["loss/train"].index) == [0, 1, 2, 3]  # the first 20 are all recorded
    assert list(by_tag["loss/validation"].index) == [0, 3, 4]
    assert by_tag["loss/validation"][4] == summary["validation"][market.loss]
    assert set(by_tag) >= COMMON
    parameters = [name for name, _ in model.named_parameters()]
    for prefix in ("norm_of_parameter", "norm_of_parameter_log10", "update_ratio"):
        for name in parameters:
            assert list(by_tag[f"{prefix}/{name}"].index) == [0, 2, 3]
    for step in (0, 2, 3):
        squares = [by_tag[f"norm_of_parameter/{name}"][step] ** 2 for name in parameters]
        assert by_tag["norm/total"][step] == pytest.approx(math.sqrt(sum(squares)))
        log = by_tag["gradient/log10_norm"][step]
        assert log == pytest.approx(math.log10(by_tag["norm/total"][step]))
        assert 0 < by_tag[f"update_ratio/{parameters[0]}"][step] < 1
    assert (by_tag["norm/nonfinite_steps"] == 0).all()
    assert by_tag["norm/clipped_fraction"].between(0, 1).all()
    check_flow(tmp_path, model, by_tag)


def check_flow(folder: Path, model: SequenceModel, by_tag: dict[str, pd.Series]) -> None:
    """What the probes of a run of 4 steps leave behind, with a state and without one."""
    has_state = isinstance(model, RecurrentModel)
    flow = pd.read_csv(folder / "gradient_flow.csv")
    leading = flow[flow.quantity == "x"]
    median = leading.set_index(["step", "lag"]).log10_median
    parts = set(model.initial_state(1)) if has_state else set()
    parts = parts if len(parts) > 1 else set()
    of_state = {"state", "weights"} if has_state else set()
    assert set(flow.quantity) == {"x"} | parts | of_state
    weights = flow[flow.quantity == "weights"].set_index("step").lag
    assert list(weights.index.unique()) == ([0, 4] if has_state else [])
    for step in set(weights.index):  # at every lag that the state has
        assert list(weights[step]) == list(leading[leading.step == step].lag)
    for name in PROFILE:
        assert list(by_tag[f"profile_summary/{name}"].index) == [0, 2, 4]
    for lag in (0, 1, 2, 5):
        for step in (0, 2, 4):
            assert by_tag[f"profile_lag/{lag}"][step] == median[step, lag]
    if has_state:
        assert list(by_tag["profile_summary/lyapunov_max"].index) == [0, 4]
        for name in model.recurrent_matrices():
            radius = by_tag[f"recurrence/{name}/spectral_radius"]
            assert (
                radius <= by_tag[f"recurrence/{name}/largest_singular_value"] * (1 + 1e-9)
            ).all()


@pytest.mark.parametrize("model", ["model=rnn_cell", "model=tcn model.dropout=0.5"])
def test_how_often_a_run_is_measured_changes_nothing(model: str, tmp_path: Path) -> None:
    """Every number of training, bit for bit; dropout draws the same numbers."""
    shared = (*model.split(), "data=recall", "data.max_days=20", "steps=12", "log_every=1")
    for folder, every in (("on", 1), ("off", "null")):
        validated = f"validate_every={1 if folder == 'on' else 12}"
        ran(tmp_path / folder, *shared, f"probe_every={every}", validated)
    on, off = (rows_of(tmp_path / name) for name in ("on", "off"))
    assert set(off) < set(on)
    measured = "profile_|recurrence/|units/|gradient/answer|loss/validation|score/"
    assert all(re.search(measured, row) for row in set(on) - set(off))
    assert len(pd.read_csv(tmp_path / "off/gradient_flow.csv")) == 0


def test_an_untrained_model_is_measured(tmp_path: Path) -> None:
    summary = ran(tmp_path, "steps=0")
    assert (summary["status"], summary["steps"]) == ("completed", 0)
    assert "loss/train" not in set(metrics(tmp_path).tag)
    assert summary["gradient"]["before"] == summary["gradient"]["after"]
    assert math.isfinite(summary["validation"]["mse"])


def test_a_run_that_fails_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> dict[str, float]:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(step_log, "parameter_norms", broken)
    with caplog.at_level(logging.ERROR), pytest.raises(RuntimeError, match="on fire"):
        ran(tmp_path, *QUICK)
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "failed"
    assert "Traceback" in caplog.text
    assert "the disk is on fire" in caplog.text


def test_the_link_to_tensorboard_is_short_on_a_terminal_alone(tmp_path: Path) -> None:
    for is_terminal in (True, False):
        console = Console(force_terminal=is_terminal, width=200, record=True)
        screen.print_where(console, tmp_path)
        text = console.export_text()
        assert ("pinnedCards" in text) is not is_terminal
        assert "http://localhost:6006/" in text


# Of the run as such, another value that a key may have.
OTHER = {
    "seed": "1",
    "steps": "5",
    "clip_norm": "1e-3",
    "log_every": "1",
    "validate_every": "1",
    "probe_every": "null",  # 4 steps are among those that are always probed
    "dtype": "float64",
}
# These act on something else than the numbers, and are tested by themselves.
APART = {
    "device",
    "threads",
    "runs_dir",
    "folder",
    "sweep",
    "checkpoint_every",
    "resume",
    "trust",
    "published",
    "data.longer_days",
    "data.sequences",
    "data.path",
    "data.packaged",
    "data.date_format",
    "optimizer.fused",
}


def keys_of() -> list[tuple[str, str]]:
    """(group choice, key) once for every key of every class that a config names."""
    choices = [f"data={name}" for name in MARKETS] + [f"optimizer={name}" for name in OPTIMIZERS]
    choices += [f"model={name}" for name in FAMILIES]
    choices += [f"model/init={name}" for name in INITS if not needs_gates(name)]
    first: dict[tuple[str, str], str] = {}  # (class, key) -> choice
    for choice in choices:
        group = "model" if choice.startswith("model") else choice.split("=")[0]
        values = composed(choice)[group]
        for key in flatten(values):
            owner = values["init"] if key.startswith("init.") else values
            first.setdefault((owner["_target_"], f"{group}.{key}"), choice)
    return [(choice, key) for (_, key), choice in first.items() if key not in APART]


def needs_gates(init: str) -> bool:
    try:
        built(f"model/init={init}")
    except SettingError:
        return True
    return False


def others(value: object, choice: str, key: str) -> list[str]:
    """Values that a key may have instead of its own; those that cannot be are tried in vain."""
    if isinstance(value, bool):
        return [str(not value).lower()]
    if isinstance(value, int):
        return [str(value + 2), str(2 * value), str(value // 2), str(value - 1)]
    if isinstance(value, float):
        return [str(value / 2 + 0.04), str(value / 2)]
    with pytest.raises(SettingError, match="allowed: ") as refused:  # it lists them
        built(choice, f"{key}=no-such-choice")
    allowed = str(refused.value).split("allowed: ")[1].split(";")[0].split(", ")
    return [name for name in allowed if name != value]


@cache
def outcome(*overrides: str) -> tuple[list[float], list[float]]:
    """The losses of a few steps, and what the model predicts of the validation batches."""
    market, model, optimizer = built(*overrides)
    losses = [step.loss for step in fit(model, market.train_batch, optimizer, 3, 1.0)]
    return losses, [model(x, lengths).sum().item() for x, lengths, _ in market.validation()]


@pytest.mark.parametrize(("choice", "key"), keys_of())
def test_every_setting_of_a_part_acts(choice: str, key: str) -> None:
    value = flatten(composed(choice, DAYS))[key]
    for other in others(value, choice, key):
        with suppress(SettingError):
            if outcome(choice, DAYS) != outcome(choice, DAYS, f"{key}={other}"):
                return
    pytest.fail(f"{key} changes nothing")


def test_every_setting_of_a_run_acts(tmp_path: Path) -> None:
    assert Settings.__annotations__.keys() - {"model", "data", "optimizer"} - APART == set(OTHER)
    for key, other in OTHER.items():
        # Without probes, which take most of so short a run; but for the setting that is about them.
        quick = QUICK if key == "probe_every" else (*QUICK, "probe_every=null")
        ran(tmp_path / key, *quick, f"{key}={other}")
        changed = metrics(tmp_path / key)
        if key == "clip_norm":
            assert changed.query("tag == 'norm/clipped_fraction'").value.max() == 1
        usual = tmp_path / f"usual{len(quick)}"
        if not usual.exists():
            ran(usual, *quick)
        assert not metrics(usual).equals(changed), f"{key} changes nothing"


def test_what_papers_printed_is_kept_and_changes_no_run(tmp_path: Path) -> None:
    ran(tmp_path / "plain", *QUICK)
    printed = "++published={after: 74000, LSTM: solves it}"
    ran(tmp_path / "printed", *QUICK, printed)
    assert metrics(tmp_path / "plain").equals(metrics(tmp_path / "printed"))
    assert read_identity(tmp_path / "plain") == read_identity(tmp_path / "printed")
    summary = json.loads((tmp_path / "printed/summary.json").read_text())
    assert summary["config"]["published"] == {"after": 74000, "LSTM": "solves it"}
    machine = checkpoint.load(tmp_path / "printed")["facts"]["machine"]  # of a resumed run
    assert machine["published"] == summary["config"]["published"]


def test_threads_device_and_fused(tmp_path: Path) -> None:
    ran(tmp_path, *QUICK, "threads=2")
    assert torch.get_num_threads() == 2
    for fused in (True, False):
        _, _, optimizer = built(f"optimizer.fused={str(fused).lower()}")
        assert optimizer.defaults["fused"] is fused
    absent = next(n for n in ("cuda", "mps") if not getattr(torch, n).is_available())
    with pytest.raises(SettingError, match=f"device is '{absent}'.*allowed: auto"):
        ran(tmp_path / "other", f"device={absent}")


def test_the_config_is_not_written_to() -> None:
    config = composed("model=lstm_chrono")
    before = json.dumps(config)
    build(check(config), torch.device("cpu"))
    assert json.dumps(config) == before
