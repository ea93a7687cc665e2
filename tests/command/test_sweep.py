"""Sweeps: folder names, failures, repeating what is missing, presets, launchers."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, built, same_run, settings_of
from forked import run_script
from hydra.core.override_parser.overrides_parser import OverridesParser

from statland.command.sweep import LONGEST, name_pattern
from statland.records import checkpoint
from statland.records.identity import read_identity

EXPERIMENTS = sorted(path.stem for path in (ROOT / "configs/experiment").glob("*.yaml"))
TINY = ("steps=2", "data.max_days=6", "probe_every=null")


def sweep(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    if not any("joblib" in argument for argument in arguments):
        return run_script("train.py", "-m", *arguments, folder=folder)
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
    return name_pattern(OverridesParser.create().parse_overrides(list(overrides)))


MODEL = "${hydra:runtime.choices.model}"


def test_runs_are_named_for_their_model_and_what_differs() -> None:
    assert named("model=lstm", "seed=3") == MODEL
    assert named("model=rnn,lstm", "data=recall", "data.max_days=10,50") == (
        MODEL + "-max_days=${data.max_days}"
    )
    assert named("data=recall,garch", "seed=range(3)") == (
        MODEL + "-${hydra:runtime.choices.data}-seed=${seed}"
    )
    assert named("seed=0,1", "seed=5") == MODEL  # the last one holds
    assert named("+x.y=1,2") == MODEL + "-y=${x.y}"


@pytest.mark.parametrize(
    "values",
    ["/a/b,/c/d", "'a,b','c'", "[1,2],[3]", "{a:1},{b:2}", "a\\ b,c", "'é',b", "null,'x/y'"],
)
def test_unsafe_values_stay_out_of_folder_names(values: str) -> None:
    assert named(f"data.path={values}", "seed=0,1") == MODEL + "-seed=${seed}"


def test_folder_names_stay_short() -> None:
    many = [f"+key{i}={'a' * 30},{'b' * 30}" for i in range(20)]
    name = re.sub(r"\$\{[^}]*\}", "x" * 30, named(*many))
    assert len(name) <= LONGEST + 30


def test_a_sweep_survives_a_failure_and_repeats_only_what_is_missing(tmp_path: Path) -> None:
    command = ("model=rnn_cell,lstm", "model/init=default,identity", "seed=0", "sweep=s", *TINY)
    first = sweep(tmp_path, *command)
    assert first.returncode == 1, first.stderr
    assert first.stdout.startswith("4 jobs, 0 of them done before, in runs/s\n")
    folder = tmp_path / "runs/s"
    ended = {
        "rnn_cell-default": "completed",
        "rnn_cell-identity": "completed",
        "lstm-default": "completed",
        "lstm-identity": "failed",
    }
    assert statuses(folder) == ended
    for name, status in ended.items():  # the closing table lists them all
        assert re.search(rf"{name} .*{status}", first.stdout)
    assert re.search(r"rnn_cell-default: completed, .*\(1 of 4, about \d+ s to go\)", first.stdout)
    assert "(4 of 4)" in first.stdout
    log = (folder / "lstm-identity/train.log").read_text()
    assert "model/init=identity needs a recurrent matrix without gates" in log
    failed = json.loads((folder / "lstm-identity/summary.json").read_text())
    assert failed["config"]["sweep"] == "s"  # resolved
    assert "after 2 updates" in (folder / "rnn_cell-default/train.log").read_text()
    assert "Traceback" not in first.stderr

    kept = {p: p.read_bytes() for p in folder.glob("rnn*/metrics.csv")}
    numbers = without_speed(folder / "lstm-default/metrics.csv")
    (folder / "lstm-default/summary.json").unlink()  # as if it had been killed
    again = sweep(tmp_path, *command)
    assert again.returncode == 1
    assert again.stdout.startswith("4 jobs, 2 of them done before")
    assert again.stdout.count("completed before") == 2
    assert "lstm-default: completed, validation" in again.stdout
    assert statuses(folder) == ended
    assert {p: p.read_bytes() for p in kept} == kept
    assert without_speed(folder / "lstm-default/metrics.csv") == numbers


def runs_by_settings(folder: Path) -> dict[str, Path]:
    return {
        json.dumps(read_identity(path.parent).settings, sort_keys=True): path.parent
        for path in folder.glob("*/run.json")
    }


GROWTH = {
    "by seed": (["seed=0,1"], ["seed=range(0,4)"]),
    "by model": (["model=rnn", "seed=0"], ["model=lstm,rnn", "seed=0,1"]),
    "by steps": (["seed=0,1"], ["seed=0,1", "steps=2,4"]),
    "in another order": (["model=rnn,lstm", "seed=0,1"], ["seed=1,0", "model=lstm,rnn"]),
    "a default restated": (["seed=0,1"], ["seed=0,1", "data.batch_size=32", "optimizer=adam"]),
}


# In CI one way of each kind; the others, and joblib, take minutes.
OFTEN = [pytest.param("by steps", "basic"), pytest.param("in another order", "basic")]
SELDOM = [
    pytest.param(how, launcher, marks=pytest.mark.slow)
    for how in GROWTH
    for launcher in ("basic", "joblib")
    if launcher == "joblib" or how not in ("by steps", "in another order")
]


@pytest.mark.parametrize(("how", "launcher"), [*OFTEN, *SELDOM])
def test_a_sweep_grows(how: str, launcher: str, tmp_path: Path) -> None:
    """It ends with the runs that one command would have made; what was there is as it was."""
    few, more = GROWTH[how]
    common = ("sweep=s", f"hydra/launcher={launcher}", *TINY)
    (tmp_path / "at_once").mkdir()
    assert sweep(tmp_path / "at_once", *common, *more).returncode == 0
    assert sweep(tmp_path, *common, *few).returncode == 0
    kept = {p: p.read_bytes() for p in (tmp_path / "runs/s").rglob("*/*") if p.is_file()}
    done = sweep(tmp_path, *common, *more)
    assert done.returncode == 0, done.stderr
    before = len([p for p in kept if p.name == "run.json"])
    assert f"{before} of them done before" in done.stdout
    assert {p: p.read_bytes() for p in kept} == kept
    grown, at_once = (runs_by_settings(f / "runs/s") for f in (tmp_path, tmp_path / "at_once"))
    assert grown.keys() == at_once.keys()
    for settings, folder in grown.items():
        same_run(at_once[settings], folder)


def test_a_run_that_was_extended_is_a_run_of_its_own_settings(tmp_path: Path) -> None:
    command = ("seed=0,1", "sweep=s", *TINY)
    assert sweep(tmp_path, *command).returncode == 0
    train = [sys.executable, str(ROOT / "scripts/train.py"), "steps=4"]
    longer = [*train, "resume=runs/s/rnn_cell-seed=0"]  # unquoted, as it is called
    subprocess.run(longer, cwd=tmp_path, check=True, capture_output=True)
    again = sweep(tmp_path, *command)
    assert again.returncode == 0, again.stderr
    assert "1 of them done before" in again.stdout
    assert "note: rnn_cell-seed=0 has 4 steps; this run is beside it" in again.stdout
    folder = tmp_path / "runs/s"
    steps = {
        p.parent.name: json.loads(p.read_text())["steps"] for p in folder.glob("*/summary.json")
    }
    assert steps == {"rnn_cell-seed=0": 4, "rnn_cell-seed=1": 2, "rnn_cell-seed=0-steps=2": 2}
    assert sweep(tmp_path, *command).stdout.count("completed before") == 2
    asked = sweep(tmp_path, "seed=0", "sweep=s", *TINY, "steps=4")
    assert "rnn_cell-seed=0: completed before" in asked.stdout


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
        metrics = stopped / "rnn_cell-seed=1/metrics.csv"
        while not (metrics.exists() and "\n50," in metrics.read_text()):
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in err
    assert statuses(stopped) == {"rnn_cell-seed=0": "completed", "rnn_cell-seed=1": "interrupted"}
    steps = json.loads((stopped / "rnn_cell-seed=1/summary.json").read_text())["steps"]
    assert 50 < steps < 800
    again = sweep(tmp_path, *command, "sweep=s")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("completed before") == 1
    for job in ("rnn_cell-seed=0", "rnn_cell-seed=1", "rnn_cell-seed=2"):
        same_run(tmp_path / "whole/runs/s" / job, stopped / job)


def test_the_same_sweep_twice_at_once_shares_the_jobs(tmp_path: Path) -> None:
    """What one of them trains the other leaves alone."""
    command = ("seed=0,1", "steps=800", "data.max_days=8", "log_every=5", "probe_every=null")
    command += ("checkpoint_every=20", "sweep=s")
    (tmp_path / "whole").mkdir()
    assert sweep(tmp_path / "whole", *command).returncode == 0
    jobs = [tmp_path / "runs/s" / name for name in ("rnn_cell-seed=0", "rnn_cell-seed=1")]
    arguments = [sys.executable, str(ROOT / "scripts/train.py"), "-m", *command]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, cwd=tmp_path, start_new_session=True, **pipes) as first:
        metrics = jobs[0] / "metrics.csv"
        while not (metrics.exists() and "\n50," in metrics.read_text()):
            assert first.poll() is None, first.communicate()
            time.sleep(0.002)
        os.killpg(first.pid, signal.SIGSTOP)
        with subprocess.Popen(arguments, cwd=tmp_path, **pipes) as second:
            other = tmp_path / "runs/s/rnn_cell-seed=1/summary.json"
            while not other.exists():
                assert second.poll() is None, second.communicate()
                time.sleep(0.05)
            os.killpg(first.pid, signal.SIGCONT)
            heard, _ = second.communicate(timeout=120)
        out, _ = first.communicate(timeout=120)
    assert (first.returncode, second.returncode) == (0, 0)
    assert "rnn_cell-seed=0: another process is training it" in heard
    assert "waiting for rnn_cell-seed=0, which another process is training" in heard
    assert "rnn_cell-seed=1: completed before" in out
    for said in (out, heard):  # both end with the table of all runs
        assert re.search(r"rnn_cell-seed=0 .*completed", said)
    for job in jobs:
        same_run(tmp_path / "whole/runs/s" / job.name, job)


def test_who_waits_for_a_process_that_dies_goes_on_with_its_run(tmp_path: Path) -> None:
    command = ("seed=0", "steps=800", "data.max_days=8", "log_every=5", "probe_every=null")
    command += ("checkpoint_every=20", "sweep=s")
    (tmp_path / "whole").mkdir()
    assert sweep(tmp_path / "whole", *command).returncode == 0
    job = tmp_path / "runs/s/rnn_cell"
    arguments = [sys.executable, str(ROOT / "scripts/train.py"), "-m", *command]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, cwd=tmp_path, start_new_session=True, **pipes) as first:
        while not ((job / "metrics.csv").exists() and "\n50," in (job / "metrics.csv").read_text()):
            assert first.poll() is None, first.communicate()
            time.sleep(0.002)
        os.killpg(first.pid, signal.SIGSTOP)
        with subprocess.Popen(arguments, cwd=tmp_path, **pipes) as second:
            heard = ""
            while "waiting for" not in heard:
                heard += second.stdout.readline()
            os.killpg(first.pid, signal.SIGKILL)
            second.communicate(timeout=120)
    assert second.returncode == 0
    same_run(tmp_path / "whole/runs/s/rnn_cell", job)


def training_process(folder: Path) -> int:
    """The process that has a run's metrics.csv open."""
    metrics = str(folder / "metrics.csv")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if metrics in {os.readlink(file) for file in (process / "fd").iterdir()}:
                return int(process.name)
    raise AssertionError(f"no process has {metrics} open")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks for the process in /proc")
@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.slow)])
def test_a_worker_that_dies_costs_its_own_job_alone(launcher: str, tmp_path: Path) -> None:
    command = ("seed=0,1,2", "steps=3000", "data.max_days=8", "probe_every=null", "sweep=s")
    command += ("checkpoint_every=100", f"hydra/launcher={launcher}", "hydra.verbose=false")
    arguments = [sys.executable, str(ROOT / "scripts/train.py"), "-m", *command]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    killed = tmp_path / "runs/s/rnn_cell-seed=1"
    with subprocess.Popen(arguments, cwd=tmp_path, **pipes) as process:
        while not (killed / "checkpoint.pt").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        os.kill(training_process(killed), signal.SIGKILL)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert "rnn_cell-seed=1: failed: its process was ended by SIGKILL" in out
    ended = {f"rnn_cell-seed={seed}": "completed" for seed in range(3)}
    assert statuses(tmp_path / "runs/s") == ended | {"rnn_cell-seed=1": "failed"}
    again = sweep(tmp_path, *command)
    assert again.returncode == 0, again.stderr
    assert statuses(tmp_path / "runs/s") == ended
    (tmp_path / "whole").mkdir()
    assert sweep(tmp_path / "whole", *command[1:-1], "seed=1").returncode == 0
    same_run(tmp_path / "whole/runs/s/rnn_cell", killed)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks for the process in /proc")
def test_a_worker_of_joblib_that_dies_costs_nothing(tmp_path: Path) -> None:
    """The process that waits for a job's own: joblib then ends its other workers too."""
    command = ("seed=0,1,2", "steps=3000", "data.max_days=8", "probe_every=null")
    command += ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "checkpoint_every=100")
    arguments = [sys.executable, str(ROOT / "scripts/train.py"), "-m", *command]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, cwd=tmp_path, **pipes) as process:
        while not (found := list(tmp_path.glob("runs/*/rnn_cell-seed=1/checkpoint.pt"))):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        training = training_process(found[0].parent)
        worker = int(Path(f"/proc/{training}/stat").read_text().rpartition(")")[2].split()[1])
        assert worker != process.pid
        os.kill(worker, signal.SIGKILL)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert "a worker process died; the sweep goes on" in out
    (folder,) = (tmp_path / "runs").iterdir()
    assert statuses(folder) == {f"rnn_cell-seed={seed}": "completed" for seed in range(3)}
    assert not list(folder.glob(".jobs-*"))
    (tmp_path / "whole").mkdir()
    assert sweep(tmp_path / "whole", *command[1:], "seed=0,1,2", "sweep=s").returncode == 0
    for name in statuses(folder):
        same_run(tmp_path / "whole/runs/s" / name, folder / name)


@pytest.mark.slow
def test_two_equal_sweeps_at_once_without_checkpoints(tmp_path: Path) -> None:
    """No run that has completed is begun anew, or taken for failed."""
    command = ("seed=0,1,2", "steps=400", "data.max_days=8", "probe_every=null", "sweep=s")
    command += ("checkpoint_every=null",)
    arguments = [sys.executable, str(ROOT / "scripts/train.py"), "-m", *command]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(arguments, cwd=tmp_path, **pipes) for _ in range(2)]
    made: dict[Path, bytes] = {}
    while any(process.poll() is None for process in both):
        for path in tmp_path.glob("runs/s/*/summary.json"):
            made.setdefault(path, path.read_bytes())
        time.sleep(0.01)
    for process in both:
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert "failed" not in out
    assert {path: path.read_bytes() for path in made} == made
    (tmp_path / "whole").mkdir()
    assert sweep(tmp_path / "whole", *command).returncode == 0
    alone = tmp_path / "whole/runs/s"
    assert statuses(tmp_path / "runs/s") == statuses(alone)
    for name, status in statuses(alone).items():
        assert status == "completed"
        for file in ("metrics.csv", "run.json"):
            assert without_speed(tmp_path / f"runs/s/{name}/{file}") == without_speed(
                alone / name / file
            )


def test_two_different_sweeps_in_one_folder_at_once(tmp_path: Path) -> None:
    commands = [("model=rnn,lstm", "seed=0"), ("model=lstm,rnn", "seed=0,1")]
    arguments = [sys.executable, str(ROOT / "scripts/train.py"), "-m", "sweep=s", *TINY]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen([*arguments, *commands[0]], cwd=tmp_path, **pipes) as one,
        subprocess.Popen([*arguments, *commands[1]], cwd=tmp_path, **pipes) as other,
    ):
        for process in (one, other):
            _, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
    (tmp_path / "at_once").mkdir()
    assert sweep(tmp_path / "at_once", *arguments[3:], *commands[1]).returncode == 0
    both, at_once = (runs_by_settings(f / "runs/s") for f in (tmp_path, tmp_path / "at_once"))
    assert both.keys() == at_once.keys()
    assert len(both) == len([p for p in (tmp_path / "runs/s").iterdir() if p.is_dir()])
    for settings, folder in both.items():
        same_run(at_once[settings], folder)


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
    jobs = [tmp_path / "runs/s" / name for name in ("rnn_cell-seed=0", "rnn_cell-seed=1")]
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
    assert statuses(folder) == {
        "rnn_orthogonal-gain=1": "completed",
        "rnn_orthogonal-gain=100": "diverged",
    }


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_presets_compose_and_build(name: str) -> None:
    assert settings_of(f"experiment={name}")["sweep"] == name
    market, model, _ = built(f"experiment={name}")
    x, lengths, y = market.train_batch(0)
    assert model(x, lengths).shape == y.shape


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


def test_for_model_sets_what_was_not_typed(tmp_path: Path) -> None:
    """A preset's sizes of single models: each family has its own, its variants share it."""
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/sizes.yaml").write_text(
        "# @package _global_\nfor_model: {lstm: {hidden_size: 3}, rnn: {num_layers: 2}}\n"
    )
    preset = ("--config-dir", "mine", "experiment=sizes", *TINY, "runs_dir=.", "sweep=s")
    done = sweep(tmp_path, *preset, "model=lstm,lstm_chrono,rnn,rnn_cell")
    assert done.returncode == 0, done.stderr
    sizes = {
        folder.name: {key: folder_settings["model"][key] for key in ("hidden_size", "num_layers")}
        for folder in (tmp_path / "s").glob("*/")
        if (folder_settings := read_identity(folder).settings)
    }
    small, default = {"hidden_size": 3, "num_layers": 1}, {"hidden_size": 32, "num_layers": 1}
    assert sizes == {
        "lstm": small,
        "lstm_chrono": small,
        "rnn": default | {"num_layers": 2},
        "rnn_cell": default,
    }
    again = sweep(tmp_path, *preset, "model=lstm,rnn", "model.hidden_size=4,5")
    assert again.returncode == 0, again.stderr
    for folder in (tmp_path / "s").glob("*size=4"):
        assert read_identity(folder).settings["model"]["hidden_size"] == 4
    assert len(list((tmp_path / "s").glob("*/run.json"))) == 8
    resumed = run_script("train.py", "resume=s/lstm", "steps=3", folder=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "goes on with its own settings" not in resumed.stdout
