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
from conftest import MARKETS, MODELS, OPTIMIZERS, built, composed, ran
from omegaconf import DictConfig, OmegaConf

from statland.settings import SettingError
from statland.training import run as run_module
from statland.training.build import KEYS, check
from statland.training.evaluation import baselines

QUICK = ("steps=4", "log_every=2", "validate_every=3", "probe_every=2", "data.max_days=8")


def metrics(folder: Path) -> pd.DataFrame:
    """Every scalar but the speed, which no two runs share."""
    table = pd.read_csv(folder / "metrics.csv")
    return table[~table.tag.str.startswith("speed/")].reset_index(drop=True)


def test_every_model_on_every_market(model_name: str, market_name: str, tmp_path: Path) -> None:
    overrides = (f"model={model_name}", f"data={market_name}")
    returned = ran(tmp_path, *QUICK, *overrides)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["status"] == returned["status"] == "completed"
    assert summary["steps"] == 4
    market, model, _ = built(f"data={market_name}", f"model={model_name}", QUICK[-1])
    assert summary["baselines"] == pytest.approx(baselines(market))
    assert summary["config"]["model"]["_target_"].endswith(type(model).__name__)
    assert {"mse", "mae", "skill"} < set(summary["validation"])
    for when in ("before", "after"):
        gradient = summary["gradient"][when]
        assert {"decay_per_day", "first_to_last", "reach_days", "reach_is_bounded"} < set(gradient)
    assert summary["span"] == market.span
    assert set(summary["provenance"]) == {"commit", "clean", "versions", "command"}

    table = metrics(tmp_path)
    by_tag = {tag: rows.set_index("step").value for tag, rows in table.groupby("tag")}
    assert list(by_tag["loss/train"].index) == [0, 2, 3]
    assert list(by_tag["loss/validation"].index) == [0, 3, 4]
    assert by_tag["loss/validation"][4] == summary["validation"]["mse"]
    parameters = [name for name, _ in model.named_parameters()]
    for prefix in ("grad_norm_parameter", "grad_norm_parameter_log10", "update_ratio"):
        for name in parameters:
            assert list(by_tag[f"{prefix}/{name}"].index) == [0, 2, 3]
    for step in (0, 2, 3):
        squares = [by_tag[f"grad_norm_parameter/{name}"][step] ** 2 for name in parameters]
        assert by_tag["grad_norm/total"][step] == pytest.approx(math.sqrt(sum(squares)))
        log = by_tag["grad_norm/log10_total"][step]
        assert log == pytest.approx(math.log10(by_tag["grad_norm/total"][step]))
        assert 0 < by_tag[f"update_ratio/{parameters[0]}"][step] < 1
    assert (by_tag["health/nonfinite_steps"] == 0).all()
    flow = pd.read_csv(tmp_path / "gradient_flow.csv")
    state = flow[flow.quantity == "state"].set_index(["step", "lag"]).log10_median
    assert set(flow.quantity) == {"state", "x"} | ({"h", "c"} if "lstm" in model_name else set())
    for tag in ("decay_per_day", "first_to_last", "reach_days", "log10_error"):
        assert list(by_tag[f"grad_flow/{tag}"].index) == [0, 2, 4]
    for lag in (0, 1, 2, 5):
        for step in (0, 2, 4):
            assert by_tag[f"grad_flow_lag/{lag}"][step] == state[step, lag]
    assert list(by_tag["lyapunov/max"].index) == [0, 4]
    assert any(tag.startswith(("activations/", "gates/")) for tag in by_tag)
    matrix = "weight_hh_l0_forget" if "lstm" in model_name else "weight_hh_l0"
    assert (
        by_tag[f"recurrence/{matrix}/spectral_radius"]
        <= by_tag[f"recurrence/{matrix}/largest_singular_value"] * (1 + 1e-9)
    ).all()
    for name in ("profile", "heatmap"):
        assert (tmp_path / f"grad_flow_{name}.png").stat().st_size > 5000
    assert by_tag["grad_norm/clipped_fraction"].between(0, 1).all()


@pytest.mark.parametrize("name", ["rnn_cell", "lstm"])
def test_the_same_command_twice_is_bit_identical(name: str, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        ran(tmp_path / folder, f"model={name}", "data=recall", "steps=30", "log_every=1")
    a, b = ((tmp_path / f / "metrics.csv").read_text().splitlines() for f in ("a", "b"))
    assert len(a) > 300
    assert [r for r in a if ",speed/" not in r] == [r for r in b if ",speed/" not in r]


def test_probes_change_nothing(tmp_path: Path) -> None:
    """Every number of training, bit for bit, with probes on every step and with none at all."""
    for folder, every in (("on", 1), ("off", "null")):
        ran(tmp_path / folder, "data=recall", "steps=12", "log_every=1", f"probe_every={every}")
    on, off = metrics(tmp_path / "on"), metrics(tmp_path / "off")
    watched = on.tag.str.split("/").str[0]
    probes = ["grad_flow", "grad_flow_lag", "recurrence", "activations", "gates", "lyapunov"]
    trained = on[~watched.isin(probes)].reset_index(drop=True)
    assert trained.equals(off)
    assert len(on) > len(off)
    assert len(pd.read_csv(tmp_path / "off/gradient_flow.csv")) == 0


def test_statquest_s_scalar_network_from_config_to_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for weight, reach in ((2, None), (0.5, 6), (0.9, 43)):
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
        assert gradient["reach_days"] == (reach or 49)
        assert gradient["reach_is_bounded"] is (weight < 1)
        assert gradient["lyapunov"] == [pytest.approx(math.log(weight), abs=1e-6)]
        words = f"reaches {reach} days" if reach else "reaches all 49 days measured"
        assert words in capsys.readouterr().out


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
    assert metrics(tmp_path).query("tag == 'health/nonfinite_steps'").value.max() == 20


def test_a_run_that_fails_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> dict[str, float]:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(run_module, "parameter_norms", broken)
    with caplog.at_level(logging.ERROR), pytest.raises(RuntimeError, match="on fire"):
        ran(tmp_path, *QUICK)
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "failed"
    assert "Traceback" in caplog.text
    assert "the disk is on fire" in caplog.text


def test_the_closing_table_has_every_baseline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(tmp_path, *QUICK, "data=stocks")
    printed = capsys.readouterr().out
    for words in ("rnn_cell (this run)", "constant", "persistence", "ar2", "zero", "skill"):
        assert words in printed
    for words in ("gradient norm: first", "run folder:", "tensorboard --logdir", "clipped"):
        assert words in printed


# Every key of every config, with another value that it may have.
OTHER = {
    "seed": "1",
    "steps": "5",
    "clip_norm": "1e-3",
    "log_every": "1",
    "validate_every": "1",
    "probe_every": "1",
    "dtype": "float64",
    "data.min_days": "7",
    "data.max_days": "9",
    "data.batch_size": "16",
    "data.shock": "0.1",
    "data.noise": "0.2",
    "data.filler": "hard",
    "data.alpha": "0.14",
    "data.beta": "0.5",
    "data.validation_fraction": "0.5",
    "data.validation_samples": "100",
    "model.hidden_size": "8",
    "model.num_layers": "2",
    "model.nonlinearity": "relu",
    "model.init.gain": "2",
    "model.init.value": "3",
    "model.init.max_span": "100",
    "model.init.input_weight": "1",
    "model.init.recurrent_weight": "0.1",
    "model.init.output_weight": "0.2",
    "model.init.bias": "0.1",
    "optimizer.lr": "0.02",
    "optimizer.weight_decay": "0.1",
    "optimizer.momentum": "0.9",
}
# These act on something else than the numbers, and are tested by themselves.
APART = {
    "device",
    "threads",
    "runs_dir",
    "sweep",
    "checkpoint_every",
    "resume",
    "data.path",
    "optimizer.fused",
}


def leaves(config: DictConfig, prefix: str = "") -> set[str]:
    keys = set()
    for key, value in config.items_ex(resolve=False):
        if isinstance(value, DictConfig):
            keys |= leaves(value, f"{prefix}{key}.")
        elif not key.startswith("_"):
            keys.add(prefix + key)
    return keys


def settings_of() -> list[tuple[str, str]]:
    """(group choice, key) once for every key of every config."""
    found = []
    choices = [f"data={name}" for name in MARKETS] + [f"optimizer={name}" for name in OPTIMIZERS]
    choices += [f"model={name}" for name in MODELS]
    choices += ["model/init=constant"]
    for choice in choices:
        for key in sorted(leaves(composed(choice))):
            group = "model" if choice.startswith("model") else choice.split("=")[0]
            if key.startswith(f"{group}."):
                found.append((choice, key))
    found += [("model=rnn_cell", key) for key in sorted(KEYS - {"model", "data", "optimizer"})]
    return [(choice, key) for choice, key in found if key not in APART]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], pd.DataFrame]:
    """The metrics of a choice with all settings as they come, run once."""

    @cache
    def once(choice: str) -> pd.DataFrame:
        folder = tmp_path_factory.mktemp("usual")
        ran(folder / "a", choice, *QUICK)
        return metrics(folder / "a")

    return once


@pytest.mark.parametrize(("choice", "key"), settings_of())
def test_every_setting_acts(
    choice: str, key: str, usual: Callable[[str], pd.DataFrame], tmp_path: Path
) -> None:
    other = OTHER[key]
    if (choice, key) == ("model=irnn", "model.nonlinearity"):
        other = "tanh"
    ran(tmp_path / "b", choice, *QUICK, f"{key}={other}")
    b = metrics(tmp_path / "b")
    assert not usual(choice).equals(b)
    if key == "clip_norm":
        assert b.query("tag == 'grad_norm/clipped_fraction'").value.max() == 1


def test_threads_device_and_fused(tmp_path: Path) -> None:
    ran(tmp_path, *QUICK, "threads=2")
    assert torch.get_num_threads() == 2
    for fused in (True, False):
        _, _, optimizer = built(f"optimizer.fused={str(fused).lower()}")
        assert optimizer.defaults["fused"] is fused
    absent = next(n for n in ("cuda", "mps") if not getattr(torch, n).is_available())
    with pytest.raises(SettingError, match=f"device is '{absent}'.*allowed: auto"):
        ran(tmp_path / "other", f"device={absent}")


def test_a_folder_of_ones_own_prices(tmp_path: Path) -> None:
    days = pd.date_range("2020-01-01", periods=60).strftime("%Y-%m-%d")
    closes = [10 + (i * 7) % 5 for i in range(60)]
    prices = tmp_path / "prices"
    prices.mkdir()
    pd.DataFrame({"Date": days, "Close": closes}).to_csv(prices / "mine.csv", index=False)
    ran(tmp_path / "a", "data=stocks", *QUICK)
    ran(tmp_path / "b", "data=stocks", *QUICK, f"data.path={prices}")
    assert not metrics(tmp_path / "a").equals(metrics(tmp_path / "b"))


WRONG = {
    "seed=-1": "seed is -1; allowed: a whole number from 0",
    "seed=1.5": "seed is 1.5",
    "steps=-1": "steps is -1; allowed: a whole number from 0 to 1",
    "steps=many": "steps is 'many'",
    "clip_norm=0": "clip_norm is 0; allowed: a finite number above 0",
    "clip_norm=nan": "clip_norm is nan",
    "log_every=0": "log_every is 0",
    "probe_every=0": "probe_every is 0",
    "validate_every=null": "validate_every is None",
    "dtype=half": "dtype is 'half'; allowed: float32, float64",
    "device=tpu": "device is 'tpu'; allowed: auto, cpu, cuda, mps",
    "threads=0": "threads is 0",
    "runs_dir=null": "runs_dir is None; allowed: a folder",
    "sweep=1": "sweep is 1; allowed: a folder",
    "model.hidden_size=0": "model.hidden_size is 0",
    "model.hidden_size=true": "model.hidden_size is True",
    "model.num_layers=0": "model.num_layers is 0",
    "model.nonlinearity=sigmoid": "model.nonlinearity is 'sigmoid'; allowed: tanh, relu, identity",
    "+model.colour=red": "model.colour is no setting of",
    "+model.init.gain=1": "model.init.gain is no setting of",
    "+extra=1": "extra is no setting; allowed:",
    "model._target_=os.system": "allowed: statland.* and torch.optim.*",
    "model._target_=statland.models.rnn.Rnn": "statland.models.rnn.Rnn, which is not there",
    "model/init=chrono": "allowed: default, orthogonal, identity, constant",
    "data.min_days=1": "data.min_days is 1; allowed: a whole number at least 2",
    "data.max_days=3": "data.max_days 3 is shorter than data.min_days 5",
    "data.batch_size=0": "data.batch_size is 0",
    "data.shock=1.1": "data.shock is 1.1; allowed: a finite number at least 0 and at most 1",
    "data.noise=inf": "data.noise is inf",
    "data.noise=1e39": "data.noise is 1e+39",
    "+data.seed=3": "data.seed is no setting of",
    "+model.input_size=3": "model.input_size is no setting of",
    "~model": "model is missing",
    "threads=100000": "threads is 100000",
    "model.hidden_size=10000000": "model.hidden_size is 10000000",
    "+optimizer.foreach=true": "optimizer: `fused` and `foreach`",
    "checkpoint_every=0": "checkpoint_every is 0",
    "data.max_days=${nowhere}": "nowhere",
    "optimizer.lr=-1": "optimizer.lr is -1; allowed: a finite number at least 0",
    "optimizer.lr=fast": "optimizer.lr is 'fast'; allowed: a finite number",
    "optimizer.lr=inf": "optimizer.lr is inf",
}


@pytest.mark.parametrize("override", list(WRONG))
def test_a_wrong_setting_is_told_in_one_line(override: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError) as refused:
        ran(tmp_path / "run", override)
    message = str(refused.value)
    assert WRONG[override] in message
    assert "\n" not in message
    assert not (tmp_path / "run").exists()


def test_wrong_settings_of_other_groups(tmp_path: Path) -> None:
    for overrides, words in {
        ("data=recall", "data.filler=soft"): "data.filler is 'soft'; allowed: easy, hard",
        ("data=garch", "data.alpha=0.5", "data.beta=0.5"): "a sum below 1",
        ("data=garch", "data.beta=1"): "data.beta is 1; allowed: a finite number at least 0 and",
        ("data=stocks", "data.path=nowhere"): "nowhere: no such folder",
        ("data=stocks", "data.validation_fraction=1"): "data.validation_fraction is 1",
        ("data=stocks", "data.validation_fraction=0.9999"): "leaves no training sample",
        ("model=rnn", "model.nonlinearity=identity"): "'identity'; allowed: tanh, relu",
        ("model=lstm", "+model.nonlinearity=relu"): "model.nonlinearity is no setting of",
        ("model=lstm_chrono", "model.init.max_span=1"): "model.init.max_span is 1",
        ("model=rnn_orthogonal", "model.init.gain=0"): "model.init.gain is 0",
    }.items():
        with pytest.raises(SettingError) as refused:
            ran(tmp_path / "run", *overrides)
        assert words in str(refused.value)


def test_the_config_is_not_written_to() -> None:
    config = composed("model=lstm_chrono")
    before = OmegaConf.to_yaml(config)
    check(config)
    assert OmegaConf.to_yaml(config) == before
