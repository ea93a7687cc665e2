"""What was written reads back: with TensorBoard's own reader, with pandas, with strict JSON."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from statland.gradients import profile
from statland.records.recorder import Recorder, showable
from statland.records.summary import write_summary

VALUES = [1.5, -2e-30, 1e30, 1e300, math.inf, -math.inf, 0.0, 0.1 + 0.2]


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), {"scalars": 0}).Reload()


def test_scalars_read_back(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        for step, value in enumerate(VALUES):
            recorder.scalars(step, {"a/b": value, "left/out": None, "c": step})
        recorder.scalars(9, {"lost": math.nan})
    read = events(tmp_path)
    assert sorted(read.Tags()["scalars"]) == ["a/b", "c", "lost"]
    scalars = read.Scalars("a/b")
    assert [s.step for s in scalars] == list(range(len(VALUES)))
    with np.errstate(over="ignore"):
        assert [s.value for s in scalars] == [float(np.float32(v)) for v in VALUES]
    assert math.isnan(read.Scalars("lost")[0].value)

    table = pd.read_csv(tmp_path / "metrics.csv")
    assert list(table.columns) == ["step", "tag", "value"]
    assert table[table.tag == "a/b"].value.tolist() == VALUES  # in full precision
    assert len(table) == 2 * len(VALUES) + 1
    assert math.isnan(table[table.tag == "lost"].value.item())


def test_every_row_is_there_at_once(tmp_path: Path) -> None:
    """Who looks at a run in progress, or at a killed one, sees all that was measured."""
    with Recorder(tmp_path) as recorder:
        recorder.scalars(3, {"a": 1.5})
        assert (tmp_path / "metrics.csv").read_text() == "step,tag,value\n3,a,1.5\n"
        recorder.flow(3, {"state": profile(torch.zeros(1, 1).double())})
        assert "3,state,0,0.0,0.0,0.0,1" in (tmp_path / "gradient_flow.csv").read_text()


def test_a_profile_reads_back(tmp_path: Path) -> None:
    log10 = torch.tensor([[0.0, -1.5, -math.inf], [0.5, -700.25, math.nan]]).double()
    with Recorder(tmp_path) as recorder:
        recorder.flow(7, {"state": profile(log10), "x": profile(log10[:, :1])})
    table = pd.read_csv(tmp_path / "gradient_flow.csv")
    columns = "step quantity lag log10_median log10_p10 log10_p90 companies exact_zeros"
    assert table.columns.tolist() == columns.split()
    assert table.values.tolist() == [
        [7, "state", 0, 0.0, 0.0, 0.5, 2, 0],
        [7, "state", 1, -700.25, -700.25, -1.5, 2, 0],
        [7, "state", 2, -math.inf, -math.inf, -math.inf, 1, 1],
        [7, "x", 0, 0.0, 0.0, 0.5, 2, 0],
    ]


def test_tensorboard_shows_shares_and_profiles_within_40_decades(tmp_path: Path) -> None:
    """So that one explosion flattens no chart; the CSV files have the values."""
    values = {"gradient/answer_share": [-300.0, -math.inf, -7.5, 90.0], "other": [-300.0] * 4}
    with Recorder(tmp_path) as recorder:
        for step in range(4):
            recorder.scalars(step, {tag: column[step] for tag, column in values.items()})
        recorder.profile("profile/x", torch.tensor([0.5, -300.0, 300.0, -math.inf, math.nan]))
    read = events(tmp_path)
    shown = {tag: [s.value for s in read.Scalars(tag)] for tag in (*values, "profile/x")}
    assert shown == {
        "gradient/answer_share": [-40, -40, -7.5, 40],
        "other": [-300.0] * 4,
        "profile/x": [0.5, -40, 40],
    }
    table = pd.read_csv(tmp_path / "metrics.csv")
    for tag, column in values.items():
        assert table[table.tag == tag].value.tolist() == column
    assert math.isnan(showable("gradient/answer_share", math.nan))


def test_a_figure_reads_back(tmp_path: Path) -> None:
    figure = Figure(figsize=(2, 1), dpi=50)
    figure.add_subplot().plot([1, 2])
    with Recorder(tmp_path) as recorder:
        recorder.figure("picture/profile", figure, 3)
    (image,) = events(tmp_path).Images("picture/profile")
    assert (image.step, image.width, image.height) == (3, 100, 50)
    assert image.encoded_image_string.startswith(b"\x89PNG")
    assert (tmp_path / "profile.png").read_bytes() == image.encoded_image_string


def test_the_summary_is_strict_json(tmp_path: Path) -> None:
    nested = {"a": math.nan, "b": [math.inf, 1.5, {"c": -math.inf}], "d": None, "p": Path("x")}
    write_summary(tmp_path, nested)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    read = json.loads((tmp_path / "summary.json").read_text(), parse_constant=refuse)
    assert read == {"a": None, "b": [None, 1.5, {"c": None}], "d": None, "p": "x"}
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
