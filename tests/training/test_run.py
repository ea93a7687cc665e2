"""Whole runs: what they leave behind, that they repeat, and that every setting acts."""

import json
import logging
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import INITS, MARKETS, MODELS, OPTIMIZERS, PAIRS, built, composed, ran
from rich.console import Console

from statland.models.base import RecurrentModel, SequenceModel
from statland.records import checkpoint
from statland.records.identity import read_identity
from statland.settings import SettingError, flatten
from statland.training import screen, step_log
from statland.training.build import build
from statland.training.config import Settings, check
from statland.training.evaluation import baselines
from statland.training.watch import span_of

# The tags of every model, so that runs overlay.
COMMON = {
    "gradient/log10_norm",
    "loss/train",
    "loss/validation",
    "norm/clipped_fraction",
    "norm/nonfinite_steps",
    "norm/total",
    "profile_lag/0",
    "profile_summary/decay_per_day",
    "profile_summary/first_to_last",
    "profile_summary/log10_error",
    "profile_summary/lost_companies",
    "profile_summary/reach_days",
    "score/mae",
}

QUICK = ("steps=4", "log_every=2", "validate_every=3", "probe_every=2", "data.max_days=8")


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
    assert {"mse", "mae", "skill"} <= set(summary["validation"])
    for when in ("before", "after"):
        gradient = summary["gradient"][when]
        assert {"decay_per_day", "answer_share", "answer_importance", "reach_days"} < set(gradient)
    assert summary["span"] == span_of(market, market.validation())
    assert set(summary["provenance"]) == {"commit", "clean", "versions", "command"}

    table = metrics(tmp_path)
    by_tag = {tag: rows.set_index("step").value for tag, rows in table.groupby("tag")}
    assert list(by_tag["loss/train"].index) == [0, 1, 2, 3]  # the first 20 are all recorded
    assert list(by_tag["loss/validation"].index) == [0, 3, 4]
    assert by_tag["loss/validation"][4] == summary["validation"]["mse"]
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
    for tag in (
        "profile_summary/first_to_last",
        "profile_summary/decay_per_day",
        "profile_summary/log10_error",
        "profile_summary/reach_days",
    ):
        assert list(by_tag[tag].index) == [0, 1, 2, 3, 4]
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


def test_the_pictures_of_a_run(pictures: None, tmp_path: Path) -> None:
    ran(tmp_path, *QUICK)
    for name in ("profile", "heatmap"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000


@pytest.mark.parametrize("model", ["rnn_cell", "lstm", "transformer"])
def test_the_same_command_twice_is_bit_identical(model: str, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        ran(tmp_path / folder, f"model={model}", "steps=20", "log_every=1", "probe_every=null")
    a, b = ((tmp_path / f / "metrics.csv").read_text().splitlines() for f in ("a", "b"))
    assert len(a) > 200
    assert [r for r in a if ",speed/" not in r] == [r for r in b if ",speed/" not in r]


def test_probes_change_nothing(tmp_path: Path) -> None:
    """Every number of training, bit for bit, with probes on every step and with none at all."""
    for folder, every in (("on", 1), ("off", "null")):
        ran(tmp_path / folder, "data=recall", "steps=12", "log_every=1", f"probe_every={every}")
    on, off = metrics(tmp_path / "on"), metrics(tmp_path / "off")
    watched = on.tag.str.split("/").str[0]
    probes = ["profile_lag", "profile_importance", "profile_summary", "recurrence", "units"]
    of_probe = watched.isin(probes) | on.tag.str.startswith("gradient/answer_")
    trained = on[~of_probe].reset_index(drop=True)
    assert trained.equals(off)
    assert len(on) > len(off)
    assert len(pd.read_csv(tmp_path / "off/gradient_flow.csv")) == 0


def test_statquest_s_scalar_network_from_config_to_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for weight, days, word in ((2, 50, "explodes"), (0.5, 7, "vanishes"), (0.9, 43, "holds")):
        folder = tmp_path / str(weight)
        summary = ran(
            folder,
            "model/init=constant",
            f"model.init.recurrent_weight={weight}",
            "model.hidden_size=1",
            "model.nonlinearity=identity",
            "data.min_days=50",
            "steps=0",
        )
        gradient = summary["gradient"]["before"]
        assert gradient["decay_per_day"] == pytest.approx(math.log10(weight), abs=1e-6)
        assert gradient["theory_decay_per_day"] == pytest.approx(math.log10(weight), abs=1e-6)
        assert gradient["reach_days"] == days - 1
        assert gradient["lyapunov"] == [pytest.approx(math.log(weight), abs=1e-6)]
        assert f"{word}: 99% of it comes from the last {days} days" in capsys.readouterr().out


def test_an_untrained_model_is_measured(tmp_path: Path) -> None:
    summary = ran(tmp_path, "steps=0")
    assert (summary["status"], summary["steps"]) == ("completed", 0)
    assert "loss/train" not in set(metrics(tmp_path).tag)
    assert summary["gradient"]["before"] == summary["gradient"]["after"]
    assert math.isfinite(summary["validation"]["mse"])


def test_divergence_is_a_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = ran(
        tmp_path,
        "model/init=orthogonal",
        "model.init.gain=100",
        "model.nonlinearity=relu",
        "data.max_days=50",
        "data.min_days=50",
        "steps=60",
        "log_every=1",
    )
    assert summary["status"] == "diverged"
    assert summary["steps"] == summary["nonfinite_steps"] == 20
    assert json.loads((tmp_path / "summary.json").read_text())["validation"]["mse"] is None
    printed = capsys.readouterr().out
    assert "diverged: after 20 steps" in printed
    assert "nan decades" not in printed
    assert summary["validation"]["accuracy"] is None or math.isnan(
        summary["validation"]["accuracy"]
    )
    assert metrics(tmp_path).query("tag == 'norm/nonfinite_steps'").value.max() == 20


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
    "data.path",
    "data.packaged",
    "data.date_format",
    "optimizer.fused",
}


def keys_of() -> list[tuple[str, str]]:
    """(group choice, key) once for every key of every class that a config names."""
    choices = [f"data={name}" for name in MARKETS] + [f"optimizer={name}" for name in OPTIMIZERS]
    choices += [f"model={name}" for name in MODELS]
    choices += [f"model/init={name}" for name in INITS if not needs_gates(name)]
    first: dict[tuple[str, str], str] = {}  # (class, key) -> choice
    for choice in choices:
        group = "model" if choice.startswith("model") else choice.split("=")[0]
        values = composed(choice)[group]
        for key in flatten(values):
            owner = values["init"] if key.startswith("init.") else values
            first.setdefault((owner["_target_"], f"{group}.{key}"), choice)
    found = [(choice, key) for (_, key), choice in first.items()]
    run_wide = Settings.__annotations__.keys() - {"model", "data", "optimizer"}
    found += [(f"model={MODELS[0]}", key) for key in sorted(run_wide)]
    return [(choice, key) for choice, key in found if key not in APART]


def needs_gates(init: str) -> bool:
    try:
        built(f"model/init={init}")
    except SettingError:
        return True
    return False


def others(value: object, choice: str, key: str) -> list[str]:
    """Values that a key may have instead of its own; those that cannot be are tried in vain."""
    if key in OTHER:
        return [OTHER[key]]
    if isinstance(value, bool):
        return [str(not value).lower()]
    if isinstance(value, int):
        return [str(value + 2), str(2 * value), str(value // 2)]
    if isinstance(value, float):
        return [str(value / 2 + 0.04), str(value / 2)]
    with pytest.raises(SettingError, match="allowed: ") as refused:  # it lists them
        built(choice, f"{key}=no-such-choice")
    allowed = str(refused.value).split("allowed: ")[1].split(";")[0].split(", ")
    return [name for name in allowed if name != value]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., pd.DataFrame]:
    """The metrics of a choice with all settings as they come, run once."""

    @cache
    def once(*overrides: str) -> pd.DataFrame:
        folder = tmp_path_factory.mktemp("usual")
        ran(folder / "a", *overrides)
        return metrics(folder / "a")

    return once


@pytest.mark.parametrize(("choice", "key"), keys_of())
def test_every_setting_acts(
    choice: str, key: str, usual: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    # Without probes, which take most of so short a run; but for the setting that is about them.
    quick = (choice, *QUICK, *([] if key == "probe_every" else ["probe_every=null"]))
    value = flatten(composed(*quick))[key]
    for place, other in enumerate(others(value, choice, key)):
        try:
            ran(tmp_path / f"{place}", *quick, f"{key}={other}")
        except SettingError:
            continue
        changed = metrics(tmp_path / f"{place}")
        if key == "clip_norm":
            assert changed.query("tag == 'norm/clipped_fraction'").value.max() == 1
        if not usual(*quick).equals(changed):
            return
    pytest.fail(f"{key} changes nothing")


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


WRONG = {
    "seed=-1": "seed is -1; allowed: a whole number from 0",
    "steps=many": "steps is 'many'",
    "clip_norm=nan": "clip_norm is nan",
    "validate_every=null": "validate_every is None",
    "dtype=half": "dtype is 'half'; allowed: float32, float64",
    "sweep=1": "sweep is 1; allowed: a text",
    "model.hidden_size=true": "model.hidden_size is True",
    "+model.colour=red": "model.colour is no setting of",
    "+extra=1": "extra is no setting; allowed:",
    "model._target_=os.system": "allowed: statland.models.*, and packages named by trust=",
    "model._target_=statland.models.rnn.Rnn": "statland.models.rnn.Rnn, which statland.models does",
    "data.max_days=3": "data.max_days 3 is shorter than data.min_days 5",
    "+data.seed=3": "data.seed is no setting of",
    "~model": "model is missing",
    "+optimizer.foreach=true": "optimizer: `fused` and `foreach`",
    "data.max_days=${nowhere}": "nowhere",
    "optimizer.lr=-1": "optimizer.lr is -1; allowed: a finite number at least 0",
}


@pytest.mark.parametrize("override", list(WRONG))
def test_a_wrong_setting_is_refused_in_one_line(override: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError) as refused:
        ran(tmp_path / "run", override)
    message = str(refused.value)
    assert WRONG[override] in message
    assert "\n" not in message
    assert not (tmp_path / "run").exists()


def test_the_config_is_not_written_to() -> None:
    config = composed("model=lstm_chrono")
    before = json.dumps(config)
    build(check(config), torch.device("cpu"))
    assert json.dumps(config) == before
