"""Sweeps: folder names, failures, repeating what is missing, presets, launchers."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, composed, same_run
from hydra.core.override_parser.overrides_parser import OverridesParser

from statland.command.folders import LONGEST, folder_name
from statland.records import checkpoint
from statland.training.build import build, check

EXPERIMENTS = sorted(path.stem for path in (ROOT / "configs/experiment").glob("*.yaml"))
TINY = ("steps=2", "data.max_days=6", "probe_every=null")


def sweep(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/train.py"), "-m", *arguments]
    # As from a terminal: a launcher's workers must not inherit what pytest set.
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=900)


def statuses(folder: Path) -> dict[str, str]:
    return {
        path.parent.name: json.loads(path.read_text())["status"]
        for path in folder.glob("*/summary.json")
    }


def without_speed(metrics: Path) -> list[str]:
    return [row for row in metrics.read_text().splitlines() if ",speed/" not in row]


def named(*overrides: str) -> str:
    return folder_name(OverridesParser.create().parse_overrides(list(overrides)))


def test_folders_are_named_for_what_differs() -> None:
    num = "${hydra.job.num}"
    assert named("model=lstm", "seed=3") == num
    assert (
        named("model=rnn,lstm", "data=recall", "data.max_days=10,50")
        == num + "-${hydra:runtime.choices.model}-max_days=${data.max_days}"
    )
    assert named("seed=range(3)") == num + "-seed=${seed}"
    assert named("seed=0,1", "seed=5") == num  # the last one holds
    assert named("+x.y=1,2") == num + "-y=${x.y}"


@pytest.mark.parametrize(
    "values",
    ["/a/b,/c/d", "'a,b','c'", "[1,2],[3]", "{a:1},{b:2}", "a\\ b,c", "'é',b", "null,'x/y'"],
)
def test_unsafe_values_stay_out_of_folder_names(values: str) -> None:
    assert named(f"data.path={values}", "seed=0,1") == "${hydra.job.num}-seed=${seed}"


def test_folder_names_stay_short() -> None:
    many = [f"+key{i}={'a' * 30},{'b' * 30}" for i in range(20)]
    name = re.sub(r"\$\{[^}]*\}", "x" * 30, named(*many))
    assert len(name) <= LONGEST + 30


def test_a_sweep_survives_a_failure_and_repeats_only_what_is_missing(tmp_path: Path) -> None:
    command = ("model=rnn_cell,lstm", "model/init=default,identity", "seed=0", "sweep=s", *TINY)
    first = sweep(tmp_path, *command)
    assert first.returncode == 1, first.stderr
    folder = tmp_path / "runs/s"
    assert statuses(folder) == {
        "0-rnn_cell-default": "completed",
        "1-rnn_cell-identity": "completed",
        "2-lstm-default": "completed",
        "3-lstm-identity": "failed",
    }
    for name, status in statuses(folder).items():  # the closing table lists them all
        assert re.search(rf"{name} .*{status}", first.stdout)
    log = (folder / "3-lstm-identity/train.log").read_text()
    assert "Traceback" in log
    assert "model/init=identity sets a network without gates" in log
    assert "after 2 updates" in (folder / "0-rnn_cell-default/train.log").read_text()
    assert "Traceback" not in first.stderr

    kept = {p: p.read_bytes() for p in folder.glob("[01]-*/metrics.csv")}
    numbers = without_speed(folder / "2-lstm-default/metrics.csv")
    (folder / "2-lstm-default/summary.json").unlink()  # as if it had been killed
    again = sweep(tmp_path, *command)
    assert again.returncode == 1
    assert again.stdout.count("completed before") == 2
    assert "2-lstm-default: completed, validation" in again.stdout
    assert statuses(folder)["2-lstm-default"] == "completed"
    assert {p: p.read_bytes() for p in kept} == kept
    assert without_speed(folder / "2-lstm-default/metrics.csv") == numbers

    other = sweep(tmp_path, *command, "steps=3")
    assert other.returncode == 2
    assert other.stderr.startswith("error: runs/s holds the sweep of model=rnn_cell,lstm")
    assert len(other.stderr.splitlines()) == 1
    assert {p: p.read_bytes() for p in kept} == kept


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_a_signal_stops_a_sweep_and_the_same_command_goes_on(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    """In the second of three jobs: the first is done, the second saved, the third not begun."""
    sizes = ("seed=0,1,2", "steps=800", "data.max_days=8", "log_every=5", "probe_every=null")
    command = (*sizes, "checkpoint_every=100000")
    (tmp_path / "whole").mkdir()
    assert sweep(tmp_path / "whole", *command, "sweep=s").returncode == 0
    stopped = tmp_path / "runs/s"
    arguments = [sys.executable, str(ROOT / "scripts/train.py"), "-m", *command, "sweep=s"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, cwd=tmp_path, **pipes) as process:
        metrics = stopped / "1-seed=1/metrics.csv"
        while not (metrics.exists() and "\n50," in metrics.read_text()):
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in err
    assert statuses(stopped) == {"0-seed=0": "completed", "1-seed=1": "interrupted"}
    steps = json.loads((stopped / "1-seed=1/summary.json").read_text())["steps"]
    assert 50 < steps < 800
    again = sweep(tmp_path, *command, "sweep=s")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("completed before") == 1
    for job in ("0-seed=0", "1-seed=1", "2-seed=2"):
        same_run(tmp_path / "whole/runs/s" / job, stopped / job)


def test_the_same_sweep_twice_at_once_shares_the_jobs(tmp_path: Path) -> None:
    """What one of them trains the other leaves alone."""
    command = ("seed=0,1", "steps=800", "data.max_days=8", "log_every=5", "probe_every=null")
    command += ("checkpoint_every=20", "sweep=s")
    (tmp_path / "whole").mkdir()
    assert sweep(tmp_path / "whole", *command).returncode == 0
    jobs = [tmp_path / "runs/s" / name for name in ("0-seed=0", "1-seed=1")]
    arguments = [sys.executable, str(ROOT / "scripts/train.py"), "-m", *command]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, cwd=tmp_path, **pipes) as first:
        metrics = jobs[0] / "metrics.csv"
        while not (metrics.exists() and "\n50," in metrics.read_text()):
            assert first.poll() is None, first.communicate()
            time.sleep(0.002)
        first.send_signal(signal.SIGSTOP)
        second = sweep(tmp_path, *command)
        assert second.returncode == 0, second.stderr
        assert "0-seed=0: another process is training it" in second.stdout
        assert statuses(tmp_path / "runs/s") == {"1-seed=1": "completed"}
        first.send_signal(signal.SIGCONT)
        out, _ = first.communicate(timeout=120)
    assert first.returncode == 0
    assert "1-seed=1: completed before" in out
    for job in jobs:
        same_run(tmp_path / "whole/runs/s" / job.name, job)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("to_all", [True, False], ids=["group", "parent"])
def test_a_signal_stops_the_workers_of_joblib(
    number: signal.Signals, status: int, to_all: bool, tmp_path: Path
) -> None:
    """Ctrl-C goes to the whole process group, kill to one process: either way the jobs save."""
    arguments = [sys.executable, str(ROOT / "scripts/train.py"), "-m", "hydra/launcher=joblib"]
    arguments += ["hydra.launcher.n_jobs=2", "seed=0,1,2", "steps=100000", "sweep=s"]
    arguments += ["probe_every=null", "checkpoint_every=100000000"]
    jobs = [tmp_path / "runs/s" / name for name in ("0-seed=0", "1-seed=1")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, cwd=tmp_path, start_new_session=True, **pipes) as process:
        for metrics in (job / "metrics.csv" for job in jobs):
            while not (metrics.exists() and "\n200," in metrics.read_text()):
                assert process.poll() is None, process.communicate()
                time.sleep(0.05)
        if to_all:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in err
    assert statuses(tmp_path / "runs/s") == dict.fromkeys((j.name for j in jobs), "interrupted")
    for job in jobs:
        steps = json.loads((job / "summary.json").read_text())["steps"]
        assert checkpoint.load(job)["updates"] == steps


def test_a_diverged_job_is_a_result(tmp_path: Path) -> None:
    done = sweep(
        tmp_path,
        "model=rnn_orthogonal",
        "model.nonlinearity=relu",
        "model.init.gain=1,100",
        "data.min_days=50",
        "steps=25",
        "probe_every=null",
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d\.\d{6}", folder.name)  # never twice
    assert statuses(folder) == {"0-gain=1": "completed", "1-gain=100": "diverged"}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_presets_compose_and_build(name: str) -> None:
    config = composed(f"experiment={name}")
    settings = check(config)
    assert settings["sweep"] == name
    market, model, _ = build(config, torch.device("cpu"))
    assert market.train_batch(0).x.shape[2] == model.layer(0).weight_ih.shape[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_presets_run_in_small(name: str, tmp_path: Path) -> None:
    done = sweep(tmp_path, f"experiment={name}", "seed=0", *TINY)
    assert done.returncode == 0, done.stderr
    assert set(statuses(tmp_path / "runs" / name).values()) == {"completed"}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "ray", "submitit_local"])
def test_launchers(launcher: str, tmp_path: Path) -> None:
    """A small sweep on each launcher: the numbers are those of the basic one."""
    command = ("model=rnn_cell,lstm", "seed=0,1", "sweep=s", *TINY)
    done = sweep(tmp_path, f"hydra/launcher={launcher}", *command)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "runs/s"
    assert set(statuses(folder).values()) == {"completed"}
    assert len(statuses(folder)) == 4
    (tmp_path / "basic").mkdir()
    assert sweep(tmp_path / "basic", *command).returncode == 0
    for summary in (tmp_path / "basic/runs/s").glob("*/summary.json"):
        theirs = json.loads((folder / summary.parent.name / "summary.json").read_text())
        assert theirs["validation"] == json.loads(summary.read_text())["validation"]
