"""Nothing that was computed is lost: kills, signals, damaged checkpoints, full disks."""

import contextlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, ran, same_run
from forked import run_script

from statland.records import checkpoint
from statland.records.checkpoint import CheckpointError, State
from statland.records.summary import read_summary
from statland.settings import SettingError
from statland.training.run import Run

TRAIN = [sys.executable, str(ROOT / "scripts/train.py")]
SMALL = ("data.max_days=8", "log_every=5", "validate_every=30", "probe_every=40")


def start(folder: Path, *arguments: str, **more: object) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*TRAIN, *arguments], cwd=folder, **pipes, **more)


def finished(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = run_script("train.py", *arguments, folder=folder)
    return done.returncode, done.stdout, done.stderr


def wait_for(path: Path, words: str, process: subprocess.Popen[str]) -> None:
    while not (path.exists() and words in path.read_text()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    command = ("model=lstm", *SMALL, "steps=800", "checkpoint_every=50")
    assert finished(tmp_path, *command, "hydra.run.dir=whole")[0] == 0
    with start(tmp_path, *command, "hydra.run.dir=killed") as process:
        wait_for(tmp_path / "killed/metrics.csv", "\n65,", process)
        process.kill()
    assert not (tmp_path / "killed/summary.json").exists()
    status, out, err = finished(tmp_path, "resume=killed")
    assert status == 0, err
    assert "look at it:  tensorboard --logdir killed" in out
    same_run(tmp_path / "whole", tmp_path / "killed")
    assert json.loads((tmp_path / "killed/summary.json").read_text())["status"] == "completed"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]
    assert "after 800 updates" in (tmp_path / "killed/train.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("market", ["recall", "stocks"])
@pytest.mark.parametrize("model", ["rnn_cell", "rnn", "lstm"])
def test_killed_at_random_moments(model: str, market: str, tmp_path: Path) -> None:
    """Four kills a pair of model and market: 24 in all."""
    command = (f"model={model}", f"data={market}", *SMALL, "steps=600", "checkpoint_every=7")
    assert finished(tmp_path, *command, "hydra.run.dir=whole")[0] == 0
    dice = random.Random(f"{model} on {market}")
    for kill in range(4):
        again = ("resume=killed",) if kill else (*command, "hydra.run.dir=killed")
        with start(tmp_path, *again) as process:
            if kill:  # from the imports to the steps
                time.sleep(dice.uniform(0.5, 3.5))
            else:
                wait_for(tmp_path / "killed/.hydra/config.yaml", "seed", process)
                time.sleep(dice.uniform(0.0, 2.5))
            process.kill()
    status, _, err = finished(tmp_path, "resume=killed")
    assert status == 0, err
    same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize(
    ("number", "status"),
    [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)],
)
def test_a_signal_ends_the_step_saves_and_says_so(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    command = (*SMALL, "steps=1500", "checkpoint_every=10000")
    assert finished(tmp_path, *command, "hydra.run.dir=whole")[0] == 0
    with start(tmp_path, *command, "hydra.run.dir=stopped") as process:
        wait_for(tmp_path / "stopped/metrics.csv", "\n50,", process)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in err
    summary = json.loads((tmp_path / "stopped/summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert checkpoint.load(tmp_path / "stopped")["updates"] == summary["steps"]
    assert finished(tmp_path, "resume=stopped")[0] == 0
    same_run(tmp_path / "whole", tmp_path / "stopped")


def test_resume_takes_the_run_s_own_settings_and_only_more_steps(tmp_path: Path) -> None:
    command = ("model=lstm", "data=recall", *SMALL, "optimizer.lr=0.01", "checkpoint_every=10")
    assert finished(tmp_path, *command, "steps=20", "hydra.run.dir=a")[0] == 0
    for wrong, words in {
        "optimizer.lr=0.1": "optimizer.lr is 0.1, and in the run to resume 0.01",
        "model=rnn": "model is rnn, and in the run to resume lstm",
        "seed=3": "seed is 3, and in the run to resume 0",
        "steps=10": "steps is 10, and the run has made 20 already",
    }.items():
        status, _, err = finished(tmp_path, "resume=a", wrong)
        assert status == 2
        assert words in err
        assert len(err.splitlines()) == 1
    status, _, err = finished(tmp_path, "resume=nowhere")
    assert (status, err) == (2, "error: resume is nowhere, which is no run folder\n")
    assert finished(tmp_path, "resume=a", "steps=40", "optimizer.lr=0.01")[0] == 0
    summary = json.loads((tmp_path / "a/summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("completed", 40)
    assert summary["config"]["optimizer"]["lr"] == 0.01
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def state(updates: int) -> State:
    weights = {"w": torch.arange(999.0) + updates}
    facts = {key: kind() for key, kind in checkpoint.FACTS.items()}
    parts = {"optimizer": {}, "identity": {}, "facts": facts, "sizes": {"metrics.csv": 3}}
    return State(updates=updates, model=weights, longer=None, **parts)


def saved(folder: Path) -> None:
    for updates in (1, 2):
        checkpoint.save(folder, state(updates))


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checkpoint.load(tmp_path) is None
    saved(tmp_path)
    assert checkpoint.load(tmp_path)["updates"] == 2
    newest = tmp_path / "checkpoint.pt"
    whole = newest.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (whole[: len(whole) // 2], b"", bytes(flipped), b"junk" * 99):
        newest.write_bytes(damaged)
        assert checkpoint.load(tmp_path)["updates"] == 1
        assert "warning: " in capsys.readouterr().err
    (tmp_path / "checkpoint.before.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="no checkpoint to go on from"):
        checkpoint.load(tmp_path)


def test_a_kill_while_saving_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop `save` at each of its calls of os in turn; a run then goes on, and is stopped again."""
    saved(tmp_path)
    newest = 2
    for name, call in itertools.product(("fsync", "replace", "open"), (1, 2, 3)):
        with monkeypatch.context() as patched:
            patched.setattr(checkpoint.os, name, stopping(getattr(os, name), call))
            with contextlib.suppress(KeyboardInterrupt):
                checkpoint.save(tmp_path, state(newest + 1))
        updates = checkpoint.load(tmp_path)["updates"]
        assert updates in (newest, newest + 1)
        newest = updates
    assert newest >= 5  # most of them came far enough
    assert (tmp_path / "checkpoint.before.pt").exists()
    checkpoint.save(tmp_path, state(99))
    assert checkpoint.load(tmp_path)["updates"] == 99


def stopping(function: Callable[..., Any], call: int) -> Callable[..., Any]:
    """The function, but for its call of that number, at which the process is stopped."""
    calls = itertools.count(1)

    def stopped(*arguments: Any) -> Any:
        if next(calls) == call:
            raise KeyboardInterrupt
        return function(*arguments)

    return stopped


def test_the_first_checkpoint_of_all_may_be_half_written(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.part").write_bytes(b"PK half")
    assert checkpoint.load(tmp_path) is None


def test_checkpoints_need_no_links_and_no_flushed_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on exFAT and on network mounts."""

    def forbidden(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    flush = os.fsync
    for name in ("link", "symlink"):
        monkeypatch.setattr(os, name, forbidden)
    is_folder = lambda file: stat.S_ISDIR(os.fstat(file).st_mode)  # noqa: E731
    monkeypatch.setattr(os, "fsync", lambda file: (forbidden if is_folder(file) else flush)(file))
    saved(tmp_path)
    assert checkpoint.load(tmp_path)["updates"] == 2
    ran(tmp_path / "a", *SMALL, "steps=10", "checkpoint_every=2")
    assert checkpoint.load(tmp_path / "a")["updates"] == 10


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda _: [1, 2],
    "nothing": lambda _: {},
    "no updates": lambda s: {k: v for k, v in s.items() if k != "updates"},
    "one part more": lambda s: s | {"extra": 1},
    "updates as text": lambda s: s | {"updates": "4"},
    "another format": lambda s: s | {"format": 1},
    "model as text": lambda s: s | {"model": "weights"},
    "another model": lambda s: s | {"model": {"w": torch.zeros(3)}},
    "weights of another shape": lambda s: (
        s | {"model": {k: v.repeat(2) if v.ndim == 1 else v for k, v in s["model"].items()}}
    ),
    "weights as numbers": lambda s: s | {"model": dict.fromkeys(s["model"], 0)},
    "optimizer empty": lambda s: s | {"optimizer": {}},
    "optimizer of other groups": lambda s: s | {"optimizer": {"state": {}, "param_groups": []}},
    "optimizer as numbers": lambda s: s | {"optimizer": {"state": 1, "param_groups": 2}},
    "identity empty": lambda s: s | {"identity": "{}"},
    "identity no JSON": lambda s: s | {"identity": "{"},
    "identity of texts": lambda s: (
        s | {"identity": json.dumps({"settings": "a", "files": "b", "choices": "c"})}
    ),
    "facts empty": lambda s: s | {"facts": "{}"},
    "facts of texts": lambda s: s | {"facts": json.dumps({"steps": "a", "lost": "b"})},
    "sizes empty": lambda s: s | {"sizes": "{}"},
    "sizes of texts": lambda s: s | {"sizes": json.dumps({"metrics.csv": "all"})},
    "longer as text": lambda s: s | {"longer": json.dumps("a")},
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "run"
    ran(folder, *SMALL, "steps=3")
    return folder


@pytest.mark.parametrize("how", list(BROKEN))
def test_a_checkpoint_made_by_hand_gives_one_line(how: str, small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(small, folder)
    packed = torch.load(folder / "checkpoint.pt", weights_only=True)
    torch.save(BROKEN[how](packed), folder / "checkpoint.pt")
    before = contents(folder)
    with pytest.raises(SettingError) as refused:
        ran(folder, *SMALL, "steps=6", resume=True)
    assert "\n" not in str(refused.value)
    assert contents(folder) == before


def test_a_checkpoint_can_run_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/ran",)

    torch.save({"updates": 1, "evil": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path)
    assert not (tmp_path / "ran").exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """The folder of a run that is stopped in its middle, before its first checkpoint."""
    command = (*SMALL, "steps=800", "checkpoint_every=700", "hydra.run.dir=a")
    with start(tmp_path, *command) as process:
        wait_for(tmp_path / "a/metrics.csv", "\n50,", process)
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)  # it has stopped
        yield tmp_path / "a"
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert finished(tmp_path, *command[:-1], "hydra.run.dir=whole")[0] == 0
    same_run(tmp_path / "whole", tmp_path / "a")


@pytest.mark.parametrize("second", ["resume=a", "hydra.run.dir=a"])
def test_a_second_process_is_refused_and_touches_nothing(held: Path, second: str) -> None:
    before = contents(held)
    status, out, err = finished(held.parent, second)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert contents(held) == before
    assert [path.name for path in held.parent.iterdir()] == ["a"]


def test_two_processes_that_start_at_once(tmp_path: Path) -> None:
    """One of them trains, the other is refused, whichever comes first."""
    command = (*SMALL, "steps=300", "hydra.run.dir=a")
    with start(tmp_path, *command) as one, start(tmp_path, *command) as other:
        for process in (one, other):
            process.communicate(timeout=120)
        assert sorted((one.returncode, other.returncode)) == [0, 2]
    assert finished(tmp_path, *command[:-1], "hydra.run.dir=whole")[0] == 0
    assert finished(tmp_path, "resume=a")[0] == 0  # its settings are still there
    same_run(tmp_path / "whole", tmp_path / "a")


def test_what_is_refused_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    ran(tmp_path / "a", *SMALL, "steps=40")
    before = contents(tmp_path / "a")
    for wrong, words in {
        ("steps=39",): "steps is 39, and the run has made 40 already",
        (
            "steps=80",
            "model.hidden_size=9",
        ): "run with another model.hidden_size: 32, not 9",
    }.items():
        with pytest.raises(SettingError, match=words):
            ran(tmp_path / "a", *SMALL, *wrong, resume=True)
        assert contents(tmp_path / "a") == before


@pytest.mark.parametrize("name", ["metrics.csv", "gradient_flow.csv", "events.out*"])
@pytest.mark.parametrize("what", ["shorter", "gone"])
def test_records_that_were_changed_are_refused(name: str, what: str, tmp_path: Path) -> None:
    ran(tmp_path, *SMALL, "steps=40")
    (path,) = tmp_path.glob(name)
    if what == "gone":
        path.unlink()
    else:
        os.truncate(path, 100)
    before = contents(tmp_path)
    with pytest.raises(SettingError, match=f"{path.name} is {what}"):
        ran(tmp_path, *SMALL, "steps=80", resume=True)
    assert contents(tmp_path) == before


def test_a_completed_run_without_a_checkpoint_is_not_begun_anew(tmp_path: Path) -> None:
    ran(tmp_path, *SMALL, "steps=5", "checkpoint_every=null")
    before = contents(tmp_path)
    with pytest.raises(SettingError, match="no checkpoint to go on from"):
        ran(tmp_path, *SMALL, "steps=9", resume=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("model", ["rnn_cell", "lstm"])
def test_a_longer_run_is_as_if_it_had_been_asked_for_at_once(model: str, tmp_path: Path) -> None:
    """Also where the first end was no step that is logged."""
    settings = (f"model={model}", *SMALL, "clip_norm=0.05")
    ran(tmp_path / "whole", *settings, "steps=90")
    ran(tmp_path / "longer", *settings, "steps=37")
    for steps in (37, 52, 90):  # the first is the same again
        ran(tmp_path / "longer", *settings, f"steps={steps}", resume=True)
        if steps == 37:
            ran(tmp_path / "short", *settings, "steps=37")
            same_run(tmp_path / "short", tmp_path / "longer")
    same_run(tmp_path / "whole", tmp_path / "longer")


def test_a_diverging_run_goes_on_diverging(tmp_path: Path) -> None:
    """The steps without a finite loss are counted on."""
    settings = ("model=rnn_orthogonal", "model.init.gain=100", "model.nonlinearity=relu")
    settings += ("data.min_days=50", "model.hidden_size=8", "log_every=3")
    whole = ran(tmp_path / "whole", *settings, "steps=100")
    ran(tmp_path / "resumed", *settings, "steps=10")
    resumed = ran(tmp_path / "resumed", *settings, "steps=100", resume=True)
    assert (resumed["status"], resumed["steps"]) == (whole["status"], 20) == ("diverged", 20)
    rows = [
        [r for r in (tmp_path / f / "metrics.csv").read_text().splitlines() if ",speed/" not in r]
        for f in ("whole", "resumed")
    ]
    assert rows[0] == rows[1]


def test_a_run_that_is_gone_on_with_is_not_completed_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran(tmp_path, *SMALL, "steps=5")
    monkeypatch.setattr(Run, "train", lambda _: os._exit(0))
    if (child := os.fork()) == 0:
        ran(tmp_path, *SMALL, "steps=9", resume=True)
    os.waitpid(child, 0)
    assert read_summary(tmp_path) is None


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_after_the_last_step_lets_the_run_end(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    """Its exit status says that it came, so that a sweep stops too."""
    command = (*SMALL, "steps=200", "sweep=s", "runs_dir=.", "seed=0,1")
    with start(tmp_path, "-m", *command) as process:
        wait_for(tmp_path / "s/rnn_cell-seed=0/metrics.csv", "\n200,loss/validation", process)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in err
    assert read_summary(tmp_path / "s/rnn_cell-seed=0")["status"] == "completed"
    assert not (tmp_path / "s/rnn_cell-seed=1/metrics.csv").exists()


def test_a_full_disk_is_told_in_one_line_and_loses_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk; then there is room again."""

    def little() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    command = ("steps=200", "log_every=1", "probe_every=null", "checkpoint_every=5")
    with start(tmp_path, *command, "hydra.run.dir=a", preexec_fn=little) as full:
        _, err = full.communicate(timeout=120)
    assert full.returncode == 1
    assert err.startswith("error: the disk is full: ")
    assert len(err.splitlines()) == 1
    table = (tmp_path / "a/metrics.csv").read_text()
    assert table.startswith("step,tag,value\n0,")
    assert 5 <= checkpoint.load(tmp_path / "a")["updates"] < 200
    assert finished(tmp_path, "resume=a")[0] == 0
    assert finished(tmp_path, *command, "hydra.run.dir=whole")[0] == 0
    same_run(tmp_path / "whole", tmp_path / "a")


def test_checkpoints_come_when_they_are_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    monkeypatch.setattr(checkpoint, "save", lambda _, state: made.append(state["updates"]))
    ran(tmp_path / "a", *SMALL, "steps=10", "checkpoint_every=4")
    assert made == [4, 8, 10]
    made.clear()
    ran(tmp_path / "b", *SMALL, "steps=10", "checkpoint_every=null")
    assert made == []
