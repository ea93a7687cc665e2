"""What TensorBoard reads of runs of several models, so that it shows them side by side."""

import math
import re

import pytest
from conftest import MODELS, drawing, ran
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

SOME = MODELS[:3]
# One again with the settings of the one before, and one that explodes.
RUNS = (*SOME, "again", "exploded")
EXPLODES = ("model=rnn_orthogonal", "model.init.gain=2", "optimizer=sgd", "optimizer.lr=1")
EXPLODES += ("clip_norm=null", "data=recall", "data.max_days=50", "steps=60")

# What the Time series page opens first, and HParams' five default columns.
STORY = [
    "gradient/answer_importance",
    "gradient/answer_share",
    "gradient/log10_norm",
    "loss/train",
    "loss/validation",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EventAccumulator]:
    folder = tmp_path_factory.mktemp("runs")
    with drawing():
        for name, model in zip(RUNS, (*SOME, SOME[-1]), strict=False):
            ran(folder / name, f"model={model}", "data=recall", "steps=5", "log_every=1")
        assert ran(folder / "exploded", *EXPLODES)["status"] == "diverged"
    # Each folder with events is a run to TensorBoard: there are no sub-runs.
    assert sorted(path.parent for path in folder.rglob("*tfevents*")) == sorted(folder.iterdir())
    return {
        n: EventAccumulator(str(folder / n), {"scalars": 0, "tensors": 0}).Reload() for n in RUNS
    }


def text(read: EventAccumulator, tag: str) -> str:
    return read.Tensors(f"{tag}/text_summary")[0].tensor_proto.string_val[0].decode()


def test_scalars_overlay_and_the_story_comes_first(runs: dict[str, EventAccumulator]) -> None:
    """The tags that every run has are the same for all models."""
    tags = {run: set(read.Tags()["scalars"]) for run, read in runs.items()}
    assert all(sorted(own)[:5] == STORY for own in tags.values())
    common = set.intersection(*tags.values())
    assert {*STORY, "norm/total", "profile/before_training"} <= common
    assert [run for run in tags if "profile/after_training" not in tags[run]] == ["exploded"]
    assert {"profile_lag/20", "score/skill", "speed/steps_per_second"} <= common
    assert [scalar.step for scalar in runs[SOME[0]].Scalars("loss/train")] == [0, 1, 2, 3, 4]


def test_figures_and_text_are_there(runs: dict[str, EventAccumulator]) -> None:
    said = r"before training the gradient (vanishes|holds|explodes): .* an even share"
    for read in runs.values():
        assert set(read.Tags()["images"]) == {"picture/profile", "picture/heatmap"}
        assert re.search(said, text(read, "gradient/verdict"))
        assert "seed: 0" in text(read, "settings")


def test_each_run_is_a_row_of_hparams(runs: dict[str, EventAccumulator]) -> None:
    """Equal settings are no reason to share one. Runs that have the same settings are drawn."""
    rows = {}
    for name, read in runs.items():
        content = read.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
        rows[name] = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
        model = {"again": SOME[-1], "exploded": "rnn_orthogonal"}.get(name, name)
        assert rows[name].hparams["model"].string_value == model
        assert rows[name].hparams["days"].number_value == 50
    assert len({row.group_name for row in rows.values()}) == len(RUNS)
    assert rows["exploded"].hparams["clip_norm"].string_value == "None"
    keys = [set(rows[name].hparams) for name in SOME]
    assert keys[0] == keys[1] == keys[2] >= {"log_every", "steps"}


def test_an_exploding_run_is_a_curve_that_climbs(runs: dict[str, EventAccumulator]) -> None:
    curve = runs["exploded"].Scalars("gradient/log10_norm")
    assert [scalar.step for scalar in curve] == list(range(len(curve)))
    finite = [scalar.value for scalar in curve if math.isfinite(scalar.value)]
    assert len(finite) >= 10
    assert finite[-1] > 20
