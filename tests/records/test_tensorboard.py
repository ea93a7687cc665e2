"""A real TensorBoard, asked over HTTP on loopback, shows runs of all models side by side."""

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
from conftest import ran

MODELS = ("rnn_cell", "rnn", "lstm")
RUNS = (*MODELS, "again")  # the last one with the settings of the one before


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a TensorBoard on a folder with a run of each model."""
    folder = tmp_path_factory.mktemp("runs")
    for name, model in zip(RUNS, (*MODELS, MODELS[-1]), strict=True):
        ran(folder / name, f"model={model}", "data=recall", "steps=5", "log_every=1")
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
    for _ in range(240):
        try:
            if len(ask(f"{address}/data/runs")) == len(RUNS):
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
    for tag in (
        "loss/train",
        "loss/validation",
        "skill/validation",
        "grad_norm/total",
        "grad_norm/log10_total",
        "grad_norm/clipped_fraction",
        "grad_norm_parameter/recurrence.weight_hh_l0",
        "update_ratio/recurrence.weight_hh_l0",
        "grad_flow/decay_per_day",
        "grad_flow/first_to_last",
        "grad_flow/reach_days",
        "grad_flow/log10_error",
        "grad_flow_lag/20",
        "lyapunov/max",
        "health/nonfinite_steps",
        "speed/steps_per_second",
    ):
        assert tag in common
    answer = ask(f"{server}/data/plugin/scalars/scalars?run=lstm&tag=loss/train")
    assert [step for _, step, _ in answer] == [0, 1, 2, 3, 4]


def test_figures_and_text_are_there(server: str) -> None:
    images = ask(f"{server}/data/plugin/images/tags")
    assert {run: set(tags) for run, tags in images.items()} == {
        run: {"grad_flow/profile", "grad_flow/heatmap"} for run in RUNS
    }
    texts = ask(f"{server}/data/plugin/text/tags")
    for model in MODELS:
        assert {"config/text_summary", "grad_flow/forecast/text_summary"} <= set(texts[model])
    told = ask(f"{server}/data/plugin/text/text?run=lstm&tag=grad_flow/forecast/text_summary")
    assert re.search(r"before training: the gradient reaches \d+ days; the answer", told[0]["text"])


def test_hparams_joins_settings_and_metrics_in_one_row_a_run(server: str) -> None:
    metric = {"group": "", "tag": "loss/validation"}
    body = {
        "experimentName": "",
        "allowedStatuses": [f"STATUS_{s}" for s in ("UNKNOWN", "SUCCESS", "FAILURE", "RUNNING")],
        "colParams": [{"hparam": "model"}, {"hparam": "data.max_days"}, {"metric": metric}],
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
        assert group["hparams"]["data.max_days"] == 50
        assert group["hparams"]["model"] == session["name"].replace("again", "lstm")
    assert set(rows) == set(RUNS)
    for run, value in rows.items():
        curve = ask(f"{server}/data/plugin/scalars/scalars?run={run}&tag=loss/validation")
        assert value["value"] == pytest.approx(curve[-1][2])
        assert value["trainingStep"] == 5
