"""Models and a market of one's own, from a package that is trusted: all that the bench's can do.

The package is tests/two_files: a recurrence without a recurrent matrix, a convolution without a
state, and a market with two inputs a day and three outputs.
"""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import OWN, extends, ran, refusal

from statland import load_run
from statland.report import load
from statland.report.comparison import compare, figures

TRUSTED = (OWN, "data=pair", "data.max_days=12", "trust=[two_files]")
QUICK = ("log_every=3", "validate_every=3", "checkpoint_every=7")
MODELS = ("convolution", "diagonal")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for model in MODELS:
        ran(folder / model, *TRUSTED, f"model={model}", *QUICK, "steps=20")
    return folder


@pytest.mark.parametrize("model", MODELS)
def test_an_extended_run_is_bit_identical(model: str, runs: Path, tmp_path: Path) -> None:
    """Dropout draws in the resumed run what it would have drawn."""
    settings = (*TRUSTED, f"model={model}", *QUICK)
    ran(tmp_path, *settings, "steps=8")
    ran(tmp_path, *settings, "steps=20", resume=True)
    extends(tmp_path, runs / model)


def test_dropout_acts_in_training_alone(runs: Path, tmp_path: Path) -> None:
    """The untrained model validates and is probed alike with any; the first loss differs."""
    other = ("model=convolution", "model.dropout=0.5", *QUICK, "steps=2")
    ran(tmp_path, *TRUSTED, *other)
    with_much, usual = (
        pd.read_csv(f / "metrics.csv").query("step == 0").set_index("tag").value
        for f in (tmp_path, runs / "convolution")
    )
    same = ["loss/validation", "profile_lag/2", "profile_summary/log10_error"]
    assert with_much[same].equals(usual[same])
    assert with_much["loss/train"] != usual["loss/train"]


def test_any_module_on_companies_of_one_age(tmp_path: Path) -> None:
    """It learns what the same model does that takes lengths; of several ages it is refused."""
    plain = (*TRUSTED, "model=convolution", "model._target_=two_files.convolution.Plain")
    assert "takes no lengths; allowed: forward(x, lengths), or a market of" in refusal(*plain)
    settings = (*QUICK, "data.min_days=12", "steps=5")
    ran(tmp_path / "plain", *plain, *settings)
    ran(tmp_path / "usual", *TRUSTED, "model=convolution", *settings)
    frames = [pd.read_csv(tmp_path / name / "metrics.csv") for name in ("plain", "usual")]
    shared = [f[~f.tag.str.contains("parameter|ratio|speed")].reset_index() for f in frames]
    pd.testing.assert_frame_equal(*shared)
    x, lengths, _ = (run := load_run(tmp_path / "plain", "two_files")).market.validation()[0]
    assert torch.equal(run.model(x, lengths), run.model.module(x))


def test_what_a_model_without_a_state_leaves_behind(runs: Path) -> None:
    flow = pd.read_csv(runs / "convolution/gradient_flow.csv")
    assert set(flow.quantity) == {"x"}
    seen = flow.lag < 4  # the window
    assert (flow.log10_median[seen] > -10).all()
    assert (flow.log10_median[~seen] == -float("inf")).all()
    assert (flow.exact_zeros[~seen] == flow.companies[~seen]).all()
    gradient = json.loads((runs / "convolution/summary.json").read_text())["gradient"]["after"]
    assert gradient["reach_days"] == 3
    assert gradient["answer_zero"]  # its first day
    assert not {"lyapunov", "log10_dp_dw"} & set(gradient)
    tags = set(pd.read_csv(runs / "convolution/metrics.csv").tag)
    assert not any(re.match("recurrence/|units/|.*lyapunov", tag) for tag in tags)
    state = pd.read_csv(runs / "diagonal/gradient_flow.csv")
    assert set(state.quantity) == {"state", "x", "weights"}


def test_they_are_compared(runs: Path) -> None:
    table = load(runs)
    assert table.attrs["skipped"] == []
    assert table.model.tolist() == list(MODELS)
    assert table.reach_after[0] == 3
    assert table.lyapunov_after.isna().tolist() == [True, False]
    compared = compare(table)
    assert list(compared.summary["model"]) == list(MODELS)
    assert {"strips", "validation", "forecast"} <= set(figures(compared.groups))


def test_the_closing_examples_show_all_inputs_and_outputs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(tmp_path, *TRUSTED, "model=diagonal", "data.max_days=5", "steps=1")
    examples = capsys.readouterr().out.partition("Examples")[2].split("run folder")[0]
    row = r"^ +(\d\S*(?:, \S+){4}) │ +(\S+) (\S+) (\S+) │ +\S+ \S+ \S+ *$"
    rows = re.findall(row, examples, re.MULTILINE)
    assert len(rows) == 4
    for history, *tomorrow in rows:
        days = [[float(value) for value in day.split("/")] for day in history.split(", ")]
        first, last, both = map(float, tomorrow)
        assert [first, last, both] == [days[0][0], days[-1][1], first + last]
