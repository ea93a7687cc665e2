"""A run that diverges, the README's explosion: the word stands wherever a measurement would."""

import json
from contextlib import redirect_stdout
from io import StringIO
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from conftest import curves_of, drawing, ran
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from statland.gradients import figures
from statland.records.files import read_flow
from statland.report import load
from statland.report.groups import group
from statland.report.statistics import summarise
from statland.report.tables import format_summary, runs_table
from statland.training.screen import result_line

EXPLODES = ("model=rnn_orthogonal", "model.nonlinearity=relu", "model.init.gain=2", "data=recall")
EXPLODES += ("data.max_days=50", "optimizer=sgd", "optimizer.lr=0.01", "clip_norm=null", "steps=60")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The run's folder, what it printed, its summary, and the subtitles of its pictures."""
    folder, subtitles, canvas = tmp_path_factory.mktemp("run"), [], figures._canvas

    def kept(title: str, subtitle: str) -> Any:
        subtitles.append(subtitle)
        return canvas(title, subtitle)

    with (
        drawing(),
        redirect_stdout(StringIO()) as printed,
        patch.object(figures, "_canvas", kept),
    ):
        found = {"summary": ran(folder, *EXPLODES)}
    found |= {"folder": folder, "printed": printed.getvalue(), "subtitles": subtitles}
    return SimpleNamespace(**found)


def test_its_recurrence_explodes_and_nothing_is_measured_after_it(run: SimpleNamespace) -> None:
    text = (run.folder / "summary.json").read_text()
    summary = json.loads(text, parse_constant=pytest.fail)  # NaN and Infinity are not JSON
    assert summary["status"] == "diverged"
    assert summary["nonfinite_steps"] == 20
    assert summary["validation"] == dict.fromkeys(summary["validation"])  # all null
    assert list(summary["gradient"]) == ["before"]
    assert summary["gradient"]["before"]["verdict"] == "explodes"
    assert float(curves_of(run.folder)["gradient/log10_norm"][0]) > 12
    assert "profile/after_training" not in curves_of(run.folder)
    assert max(read_flow(run.folder)) < summary["steps"]
    assert curves_of(run.folder)["loss/validation"][summary["steps"]] == "nan"
    assert max(map(float, curves_of(run.folder)["norm/nonfinite_steps"].values())) == 20


def test_the_word_stands_on_the_screen_in_tables_pictures_and_tensorboard(
    run: SimpleNamespace,
) -> None:
    after = run.summary["steps"]
    assert f"diverged after {after} steps" in run.printed
    assert "after training" not in run.printed
    assert "nan decades" not in run.printed
    assert result_line(run.summary).endswith("the gradient explodes -> diverged")
    assert run.subtitles[-2:] == [f"diverged at step {after}"] * 2  # profile and heatmap
    read = EventAccumulator(str(run.folder), {"tensors": 0}).Reload()
    said = read.Tensors("gradient/verdict/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert said == f"diverged after {after} steps"
    runs = load(run.folder)
    (row,) = format_summary(summarise(group(runs))).to_dict("records")
    assert row["gradient"] == "explodes -> diverged"
    assert all(row[name].endswith(" -> diverged") for name in ("share", "importance", "reach"))
    cells = [next(iter(column.cells)) for column in runs_table(runs, 200).columns]
    assert sum("-> diverged" in cell for cell in cells) == 3
