"""Sweeps: names, failures, repeating what is missing, sharing the work, presets, launchers."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
from conftest import ROOT, built, rows_of, same_run, settings_of
from forked import Script, run_script
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from statland.command.compose import plain
from statland.command.sweep import run_name
from statland.records import checkpoint
from statland.records.identity import read_identity

EXPERIMENTS = sorted(path.stem for path in (ROOT / "configs/experiment").glob("*.yaml"))
TINY = ("steps=2", "data.max_days=12", "probe_every=null")  # pairs2024 needs 12
SHORT = ("steps=300", "data.max_days=8", "log_every=5", "probe_every=null")
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "scripts/train.py"), "-m", *arguments, "sweep=s"]


def started(folder: Path, *arguments: str, **more: Callable[[], None]) -> Script:
    return Script("train.py", *command(*arguments)[2:], folder=folder, **more)


def sweep(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    if not any("joblib" in argument for argument in arguments):
        return run_script("train.py", "-m", *arguments, "sweep=s", folder=folder)
    # As from a terminal: a launcher's workers must not inherit what pytest set.
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    return subprocess.run(
        command(*arguments), cwd=folder, env=env, capture_output=True, text=True, timeout=900
    )


def statuses(folder: Path) -> dict[str, str]:
    return {
        path.parent.name: json.loads(path.read_text())["status"]
        for path in folder.glob("*/summary.json")
    }


def runs_by_settings(folder: Path) -> dict[str, Path]:
    return {
        json.dumps(read_identity(path.parent).settings, sort_keys=True): path.parent
        for path in folder.glob("*/run.json")
    }


def test_runs_are_named_for_their_model_and_their_overrides() -> None:
    """Sorted by key; the settings of the machine are left out."""
    overrides = ["steps=500", "seed=1", "data=recall", "model=lstm", "data.max_days=50"]
    name = "lstm-recall-max_days=50-seed=1-steps=500"
    assert run_name("lstm", overrides) == run_name("lstm", reversed(overrides)) == name
    machine = ["device=cpu", "threads=2", "runs_dir=x", "sweep=s", "experiment=memory", "folder=a"]
    assert run_name("rnn", [*machine, "+x.y=1", "~data.noise"]) == "rnn-noise=-y=1"
    assert (
        run_name("rnn", ["model/init=chrono", "data.path='/a b/ü:c'"]) == "rnn-path=_a_b_c-chrono"
    )
    assert len(run_name("rnn", [f"key{i}={'a' * 30}" for i in range(20)])) == 150


def test_a_sweep_survives_a_failure_and_repeats_only_what_is_missing(tmp_path: Path) -> None:
    arguments = ("model=rnn_cell,lstm", "model/init=default,identity", *TINY)
    first = sweep(tmp_path, *arguments)
    assert first.returncode == 1, first.stderr
    assert first.stdout.startswith("4 jobs, in runs/s\n")
    folder = tmp_path / "runs/s"
    ended = {
        run_name(model, [f"model/init={init}", *TINY]): "completed"
        for model in ("rnn_cell", "lstm")
        for init in ("default", "identity")
    }
    default, failing = list(ended)[2:]
    ended[failing] = "failed"
    assert statuses(folder) == ended
    for name, status in ended.items():  # each has a line, and a row in the closing table
        assert f"{name}: {status}" in first.stdout
    assert re.search(r"\(1 of 4, about \d+ s to go\)", first.stdout)
    assert "(4 of 4)" in first.stdout
    reason = "model/init=identity needs a recurrent matrix without gates"
    assert reason in (folder / failing / "train.log").read_text()
    failed = json.loads((folder / failing / "summary.json").read_text())
    assert reason in failed["error"]
    assert failed["config"]["sweep"] == "s"  # resolved
    assert "after 2 updates" in (folder / default / "train.log").read_text()
    assert "Traceback" not in first.stderr

    kept = {p: p.read_bytes() for p in folder.glob("rnn*/metrics.csv")}
    rows = rows_of(folder / default)
    (folder / default / "summary.json").unlink()  # as if it had been killed
    again = sweep(tmp_path, *arguments)
    assert again.returncode == 1
    assert "4 jobs, 2 of them done before" in again.stdout
    assert f"{default}: completed, validation" in again.stdout
    assert statuses(folder) == ended
    assert {p: p.read_bytes() for p in kept} == kept
    assert rows_of(folder / default) == rows


# More models, more steps, in another order, and with defaults restated.
FEW = ("model=rnn", "steps=2")
MORE = ("steps=4,2", "model=lstm,rnn", "seed=0", "optimizer=adam")


@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.slow)])
def test_a_sweep_grows(launcher: str, tmp_path: Path) -> None:
    """It ends with the runs that one command would have made; what was there is as it was."""
    common = (f"hydra/launcher={launcher}", *TINY)
    assert sweep(tmp_path / "at_once", *common, *MORE).returncode == 0
    assert sweep(tmp_path, *common, *FEW).returncode == 0
    kept = {p: p.read_bytes() for p in (tmp_path / "runs/s").rglob("*/*") if p.is_file()}
    done = sweep(tmp_path, *common, *MORE)
    assert done.returncode == 0, done.stderr
    assert "1 of them done before" in done.stdout
    assert {p: p.read_bytes() for p in kept} == kept
    grown, at_once = (runs_by_settings(f / "runs/s") for f in (tmp_path, tmp_path / "at_once"))
    assert grown.keys() == at_once.keys()
    assert len(grown) == 4
    for settings, folder in grown.items():
        same_run(at_once[settings], folder)


def test_a_run_that_was_extended_is_a_run_of_its_own_settings(tmp_path: Path) -> None:
    preset = tmp_path / "mine/experiment/tiny.yaml"
    preset.parent.mkdir(parents=True)
    preset.write_text("# @package _global_\nsteps: 2\ndata: {max_days: 6}\nprobe_every: null\n")
    arguments = ("--config-dir", "mine", "experiment=tiny", "seed=0,1")
    assert sweep(tmp_path, *arguments).returncode == 0
    longer = run_script("train.py", "resume=runs/s/rnn_cell-seed=0", "steps=4", folder=tmp_path)
    assert longer.returncode == 0, longer.stderr
    again = sweep(tmp_path, *arguments)
    assert again.returncode == 0, again.stderr
    assert "1 of them done before" in again.stdout
    assert (
        "note: rnn_cell-seed=0-run2 is another run than rnn_cell-seed=0: steps is 2" in again.stdout
    )
    steps = {
        path.parent.name: json.loads(path.read_text())["steps"]
        for path in tmp_path.glob("runs/s/*/summary.json")
    }
    assert steps == {"rnn_cell-seed=0": 4, "rnn_cell-seed=1": 2, "rnn_cell-seed=0-run2": 2}
    for more in ((), ("seed=0", "steps=4")):
        done = sweep(tmp_path, *arguments, *more).stdout
        assert "2 of them done before" in done or "1 jobs, 1 of them done before" in done


def test_a_signal_stops_a_sweep_and_the_same_command_resumes_it(tmp_path: Path) -> None:
    """In the second of three jobs: the first is done, the second saved, the third not begun."""
    arguments = ("seed=0,1,2", *SHORT, "checkpoint_every=100000")
    jobs = [run_name("rnn_cell", [*SHORT, f"seed={seed}"]) for seed in range(3)]
    stopped = tmp_path / "runs/s"
    with started(tmp_path, *arguments) as process:
        process.wait_for(stopped / jobs[1] / "metrics.csv", "\n50,")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert statuses(stopped) == {jobs[0]: "completed", jobs[1]: "interrupted"}
    steps = json.loads((stopped / jobs[1] / "summary.json").read_text())["steps"]
    assert 50 < steps < 300
    again = sweep(tmp_path, *arguments)
    assert again.returncode == 0, again.stderr
    assert "3 jobs, 1 of them done before" in again.stdout
    assert sweep(tmp_path / "whole", *arguments).returncode == 0
    for job in jobs:
        same_run(tmp_path / "whole/runs/s" / job, stopped / job)


def test_two_equal_sweeps_at_once_share_the_jobs(tmp_path: Path) -> None:
    """What one trains the other skips and names; a run that has completed is not begun anew."""
    arguments = ("seed=0,1", *SHORT, "checkpoint_every=null")
    jobs = [run_name("rnn_cell", [*SHORT, f"seed={seed}"]) for seed in (0, 1)]
    folder = tmp_path / "runs/s"
    with started(tmp_path, *arguments, prepare=os.setsid) as first:
        first.wait_for(folder / jobs[0] / "metrics.csv", "\n50,")
        os.killpg(first.pid, signal.SIGSTOP)
        second = sweep(tmp_path, *arguments)
        os.killpg(first.pid, signal.SIGCONT)
        out, _ = first.communicate()
    assert (first.returncode, second.returncode) == (0, 0)
    assert f"{jobs[0]}: another process is training in this folder" in second.stdout
    assert f"{jobs[1]}: completed, " in second.stdout
    assert "2 jobs, 1 of them done before" in out
    assert sweep(tmp_path / "whole", *arguments).returncode == 0
    for job in jobs:
        assert rows_of(tmp_path / "whole/runs/s" / job) == rows_of(folder / job)


def training_process(folder: Path) -> int:
    metrics = str(folder / "metrics.csv")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if metrics in {os.readlink(file) for file in (process / "fd").iterdir()}:
                return int(process.name)
    raise AssertionError(f"no process has {metrics} open")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks for the process in /proc")
def test_a_process_that_dies_costs_its_own_job_alone(tmp_path: Path) -> None:
    arguments = ("seed=0,1", *SHORT, "checkpoint_every=20")
    jobs = [run_name("rnn_cell", [*SHORT, f"seed={seed}"]) for seed in range(2)]
    killed = tmp_path / "runs/s" / jobs[0]
    with started(tmp_path, *arguments) as process:
        while not (killed / "checkpoint.pt").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        os.kill(training_process(killed), signal.SIGKILL)
        out, err = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in err
    assert f"{jobs[0]}: failed: its process was ended by signal 9, Killed" in out
    ended = dict.fromkeys(jobs, "completed")
    assert statuses(tmp_path / "runs/s") == ended | {jobs[0]: "failed"}
    assert sweep(tmp_path, *arguments).returncode == 0
    assert statuses(tmp_path / "runs/s") == ended
    assert sweep(tmp_path / "whole", *arguments[1:], "seed=0").returncode == 0
    same_run(tmp_path / "whole/runs/s" / jobs[0], killed)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_workers_of_joblib(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    """Ctrl-C goes to the whole process group, kill to one process: either way the jobs save."""
    settings = ("steps=100000", "probe_every=null")
    arguments = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1,2", *settings)
    names = [run_name("rnn_cell", [*settings, f"seed={seed}"]) for seed in (0, 1)]
    jobs = [tmp_path / "runs/s" / name for name in names]
    full = command(*arguments, "checkpoint_every=100")
    with subprocess.Popen(full, cwd=tmp_path, start_new_session=True, **PIPES) as process:
        for job in jobs:
            while not (job / "checkpoint.pt").exists():
                assert process.poll() is None, process.communicate()
                time.sleep(0.01)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in err
    assert statuses(tmp_path / "runs/s") == dict.fromkeys(names, "interrupted")
    for job in jobs:
        steps = json.loads((job / "summary.json").read_text())["steps"]
        assert checkpoint.load(job)["updates"] == steps


def test_a_diverged_job_is_a_result(tmp_path: Path) -> None:
    settings = ("model.nonlinearity=relu", "data.min_days=50", "steps=22", "probe_every=null")
    arguments = ("model=rnn_orthogonal", "model.init.gain=1,100", *settings)
    done = run_script("train.py", "-m", *arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d\.\d{6}", folder.name)  # never twice
    assert statuses(folder) == {
        run_name("rnn_orthogonal", [*settings, f"model.init.gain={gain}"]): status
        for gain, status in ((1, "completed"), (100, "diverged"))
    }


def test_a_failed_job_is_found_once_its_price_files_are_there(tmp_path: Path) -> None:
    """A run that failed before it read them, and one that was trained on other ones."""
    sizes = ("data.min_days=5", "data.max_days=6", "steps=1", "probe_every=null")
    arguments = ("data=stocks", "data.path=prices,good", *sizes)
    days = [f"2020-01-{day:02},{day % 3 + 1}\n" for day in range(1, 32)]
    for name in ("good", "prices"):
        (tmp_path / name).mkdir()
    (tmp_path / "good/mine.csv").write_text("Date,Close\n" + "".join(days))
    names = [
        run_name("rnn_cell", ["data=stocks", f"data.path={p}", *sizes]) for p in ("good", "prices")
    ]
    first = sweep(tmp_path, *arguments)
    assert first.returncode == 1
    folder = tmp_path / "runs/s"
    assert statuses(folder) == {names[0]: "completed", names[1]: "failed"}
    (tmp_path / "prices/mine.csv").write_text("Date,Close\n" + "".join(days))
    assert sweep(tmp_path, *arguments).returncode == 0
    assert statuses(folder) == dict.fromkeys(names, "completed")
    (tmp_path / "good/mine.csv").write_text("Date,Close\n" + "".join(days[1:]))
    done = sweep(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert f"note: {names[0]}-run2 is another run than {names[0]}: the price files" in done.stdout
    assert f"{names[1]}: completed before" in done.stdout
    assert statuses(folder) == dict.fromkeys([*names, f"{names[0]}-run2"], "completed")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_presets_compose_and_build(name: str) -> None:
    assert settings_of(f"experiment={name}")["sweep"] == name
    market, model, _ = built(f"experiment={name}")
    batch = market.train_batch(0)
    assert model(batch.x, batch.lengths).shape == (len(batch.x), market.output_size)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_presets_run_in_small(name: str, tmp_path: Path) -> None:
    done = sweep(tmp_path, f"experiment={name}", "seed=0", *TINY)
    assert done.returncode == 0, done.stderr
    assert set(statuses(tmp_path / "runs/s").values()) == {"completed"}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "ray", "submitit_local"])
def test_launchers(launcher: str, tmp_path: Path) -> None:
    """A small sweep on each launcher that is installed: the numbers are those of the basic one."""
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    arguments = ("model=rnn_cell,lstm", "seed=0,1", *TINY)
    done = sweep(tmp_path, f"hydra/launcher={launcher}", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"waiting for 4 jobs, handed to {launcher}" in done.stdout
    assert len(statuses(tmp_path / "runs/s")) == 4
    assert sweep(tmp_path / "basic", *arguments).returncode == 0
    for name, status in statuses(tmp_path / "runs/s").items():
        assert status == "completed"
        assert rows_of(tmp_path / "runs/s" / name) == rows_of(tmp_path / "basic/runs/s" / name)


def test_for_model_sets_what_the_command_line_does_not() -> None:
    """A preset's sizes of single models: each family has its own, its variants share it."""

    def size(*overrides: str) -> tuple[int, int]:
        preset = ["++for_model.lstm.hidden_size=3", "++for_model.rnn.num_layers=2"]
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            config = compose("train", [*preset, *overrides], return_hydra_config=True)
        with patch.object(HydraConfig.instance(), "cfg", config):
            model = plain(config)["model"]
        return model["hidden_size"], model["num_layers"]

    assert size("model=lstm") == size("model=lstm_chrono") == (3, 1)
    assert (size("model=rnn"), size("model=rnn_cell")) == ((32, 2), (32, 1))
    assert size("model=lstm", "model.hidden_size=4") == (4, 1)
