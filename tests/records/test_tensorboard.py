"""A real TensorBoard, asked over HTTP on loopback, shows runs of several models side by side."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import MODELS, drawing, ran

SOME = MODELS[:3]
# One again with the settings of the one before, and one that explodes.
RUNS = (*SOME, "again", "exploded")
EXPLODES = ("model=rnn_orthogonal", "model.init.gain=2", "optimizer=sgd", "optimizer.lr=1")
EXPLODES += ("clip_norm=null", "data=recall", "data.max_days=50", "steps=60")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a TensorBoard on a folder with a run of each model."""
    folder = tmp_path_factory.mktemp("runs")
    with drawing():
        for name, model in zip(RUNS, (*SOME, SOME[-1]), strict=False):
            ran(folder / name, f"model={model}", "data=recall", "steps=5", "log_every=1")
        assert ran(folder / "exploded", *EXPLODES)["status"] == "diverged"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder)]
    with subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--load_fast=false"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        address = f"http://127.0.0.1:{port}"
        _wait_for_runs(address, folder)
        yield address
        process.terminate()


def _wait_for_runs(address: str, folder: Path) -> None:
    """Wait until each run's last event, a picture, is loaded."""
    for _ in range(240):
        try:
            images = ask(f"{address}/data/plugin/images/tags")
            if len(images) == len(RUNS) and all(
                "picture/heatmap" in tags for tags in images.values()
            ):
                return
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.25)
    raise TimeoutError(f"TensorBoard did not load {folder}")


def ask(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_one_run_a_folder_and_no_sub_runs(server: str) -> None:
    assert sorted(ask(f"{server}/data/runs")) == sorted(RUNS)


def test_scalars_overlay(server: str) -> None:
    """The tags that every run has are the same for all models."""
    tags = {run: set(t) for run, t in ask(f"{server}/data/plugin/scalars/tags").items()}
    common = set.intersection(*tags.values())
    assert {*STORY, "norm/total", "profile/before_training"} <= common
    assert [run for run in tags if "profile/after_training" not in tags[run]] == ["exploded"]
    assert {"profile_lag/20", "score/skill", "speed/steps_per_second"} <= common
    answer = ask(f"{server}/data/plugin/scalars/scalars?run={SOME[0]}&tag=loss/train")
    assert [step for _, step, _ in answer] == [0, 1, 2, 3, 4]


def test_figures_and_text_are_there(server: str) -> None:
    images = ask(f"{server}/data/plugin/images/tags")
    assert {run: set(tags) for run, tags in images.items()} == {
        run: {"picture/profile", "picture/heatmap"} for run in RUNS
    }
    texts = ask(f"{server}/data/plugin/text/tags")
    for model in SOME:
        assert {"gradient/verdict/text_summary", "settings/text_summary"} <= set(texts[model])
    query = f"run={SOME[0]}&tag=gradient/verdict/text_summary"
    said = ask(f"{server}/data/plugin/text/text?{query}")[0]["text"]
    assert re.search(
        r"before training the gradient (vanishes|holds|explodes): .* an even share", said
    )


def test_hparams_joins_settings_and_metrics_in_one_row_a_run(server: str) -> None:
    metric = {"group": "", "tag": "loss/validation"}
    body = {
        "experimentName": "",
        "allowedStatuses": [f"STATUS_{s}" for s in ("UNKNOWN", "SUCCESS", "FAILURE", "RUNNING")],
        "colParams": [{"hparam": "model"}, {"hparam": "days"}, {"metric": metric}],
        "startIndex": 0,
        "sliceSize": 100,
    }
    groups = ask(f"{server}/data/plugin/hparams/session_groups", body)["sessionGroups"]
    assert len(groups) == len(RUNS)  # equal settings are no reason to share a row
    rows = {}
    for group in groups:
        (session,) = group["sessions"]
        value = next(m for m in group["metricValues"] if m["name"] == metric)
        rows[session["name"]] = value
        model = {"again": SOME[-1], "exploded": "rnn_orthogonal"}
        assert group["hparams"]["days"] == 50
        assert group["hparams"]["model"] == model.get(session["name"], session["name"])
    assert set(rows) == set(RUNS)
    # Parallel coordinates draws runs that have the same settings.
    hparams = {group["sessions"][0]["name"]: set(group["hparams"]) for group in groups}
    assert all(hparams[name] == hparams[SOME[0]] >= {"log_every", "steps"} for name in SOME)
    for run, value in rows.items():
        curve = ask(f"{server}/data/plugin/scalars/scalars?run={run}&tag=loss/validation")
        assert value["value"] == pytest.approx(curve[-1][2])
        assert value["trainingStep"] == curve[-1][1]


# What the Time series page opens first, and HParams' five default columns.
STORY = [
    "gradient/answer_importance",
    "gradient/answer_share",
    "gradient/log10_norm",
    "loss/train",
    "loss/validation",
]


def test_the_story_comes_first(server: str) -> None:
    for tags in ask(f"{server}/data/plugin/scalars/tags").values():
        assert sorted(tags)[:5] == STORY


def test_an_exploding_run_is_a_curve_that_climbs(server: str) -> None:
    curve = ask(f"{server}/data/plugin/scalars/scalars?run=exploded&tag=gradient/log10_norm")
    assert [step for _, step, _ in curve] == list(range(len(curve)))
    finite = [value for _, _, value in curve if isinstance(value, float)]  # JSON has NaN as a text
    assert len(finite) >= 10
    assert finite[-1] > 20
