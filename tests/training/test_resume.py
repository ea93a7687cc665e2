"""Nothing that was computed is lost: kills, signals, torn checkpoints, full disks."""

import json
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import contents, extends, ran, rows_of, same_run
from forked import Script, run_script

from statland.command.sweep import run_name
from statland.records import checkpoint, files, recorder
from statland.records.checkpoint import State
from statland.records.identity import Identity
from statland.records.summary import read_summary, write_json
from statland.settings import SettingError
from statland.training import watch
from statland.training.run import Run

SMALL = ("data.max_days=8", "log_every=5", "validate_every=30", "probe_every=40")
QUICK = (*SMALL[:3], "probe_every=null")


def start(folder: Path, *arguments: str, **more: Callable[[], None]) -> Script:
    return Script("train.py", *arguments, folder=folder, **more)


def finished(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = run_script("train.py", *arguments, folder=folder)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    command = ("model=lstm", "data=stocks", *SMALL, "steps=600", "checkpoint_every=7")
    assert finished(tmp_path, *command, "hydra.run.dir=whole")[0] == 0
    dice = random.Random(0)
    for kill in range(4):
        again = ("resume=killed",) if kill else (*command, "hydra.run.dir=killed")
        with start(tmp_path, *again) as process:
            if not kill:
                process.wait_for(tmp_path / "killed/.hydra/config.yaml", "seed")
            time.sleep(dice.uniform(0.0, 2.5))
            process.send_signal(signal.SIGKILL)
    status, _, err = finished(tmp_path, "resume=killed")
    assert status == 0, err
    same_run(tmp_path / "whole", tmp_path / "killed")


def test_two_processes_that_start_at_once(tmp_path: Path) -> None:
    """One of them trains, the other is refused, whichever comes first."""
    command = (*QUICK, "steps=50", "hydra.run.dir=a")
    with start(tmp_path, *command) as one, start(tmp_path, *command) as other:
        for process in (one, other):
            process.communicate()
        assert sorted((one.returncode, other.returncode)) == [0, 2]
    assert finished(tmp_path, *command[:-1], "hydra.run.dir=whole")[0] == 0
    assert finished(tmp_path, "resume=a")[0] == 0  # its settings are still there
    same_run(tmp_path / "whole", tmp_path / "a")


def test_a_signal_ends_the_step_saves_and_says_so(tmp_path: Path) -> None:
    command = (*SMALL, "steps=150", "checkpoint_every=10000")
    assert finished(tmp_path, *command, "hydra.run.dir=whole")[0] == 0
    with start(tmp_path, *command, "hydra.run.dir=stopped") as process:
        process.wait_for(tmp_path / "stopped/metrics.csv", "\n50,")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate()
    assert process.returncode == 143
    assert "Traceback" not in err
    summary = json.loads((tmp_path / "stopped/summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert checkpoint.load(tmp_path / "stopped")["updates"] == summary["steps"]
    assert finished(tmp_path, "resume=stopped")[0] == 0
    same_run(tmp_path / "whole", tmp_path / "stopped")


def state(updates: int) -> State:
    weights = {"w": torch.arange(999.0) + updates}
    return State(updates=updates, model=weights, optimizer={}, facts={})


def stopped(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_kill_while_saving_leaves_a_complete_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the file is on disk, before it takes its place, and where half of it is written."""
    assert checkpoint.load(tmp_path) is None
    checkpoint.save(tmp_path, state(1))
    write_json(tmp_path / "run.json", {"a": 1})
    for owner, name in ((files.os, "fsync"), (files.os, "replace"), (torch, "save")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, stopped)
            with pytest.raises(KeyboardInterrupt):
                checkpoint.save(tmp_path, state(2))
            if owner is not torch:
                with pytest.raises(KeyboardInterrupt):
                    write_json(tmp_path / "run.json", {"a": 2})
        assert checkpoint.load(tmp_path)["updates"] == 1
        assert json.loads((tmp_path / "run.json").read_text()) == {"a": 1}
    checkpoint.save(tmp_path, state(2))
    assert checkpoint.load(tmp_path)["updates"] == 2


@pytest.mark.parametrize(("owner", "name"), [(files.os, "replace"), (recorder, "SummaryWriter")])
def test_a_kill_as_a_run_begins_leaves_a_free_folder_or_a_run(
    owner: object, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without run.json the same command begins again, with it resume= does."""
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, stopped)
        with pytest.raises(KeyboardInterrupt):
            ran(tmp_path, *QUICK, "steps=3")
    ran(tmp_path, *QUICK, "steps=3", resume=(tmp_path / "run.json").exists())
    with pytest.raises(SettingError, match="holds a run already"):
        ran(tmp_path, *QUICK, "steps=3")


def torn(path: Path) -> list[bytes]:
    """A file cut short, emptied, with one bit changed, and replaced by junk."""
    complete = path.read_bytes()
    flipped = bytearray(complete)
    flipped[len(complete) // 2] ^= 1
    return [complete[: len(complete) // 2], b"", bytes(flipped), b"junk" * 99]


def test_a_torn_or_old_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    ran(tmp_path / "run", *QUICK, "steps=3")
    path = tmp_path / "run/checkpoint.pt"
    packed = torch.load(path, weights_only=True)
    other = packed | {"model": dict.fromkeys(packed["model"], torch.zeros(3))}
    bad = torn(path)
    for made in ({"updates": 3, "format": 4}, packed | {"extra": 1}, other, [1, 2]):
        torch.save(made, path)
        bad.append(path.read_bytes())
    for content in bad:
        path.write_bytes(content)
        before = contents(tmp_path)
        with pytest.raises(SettingError, match=r"checkpoint\.pt") as refused:
            ran(tmp_path / "run", *QUICK, "steps=6", resume=True)
        assert "\n" not in str(refused.value)
        assert contents(tmp_path) == before


def test_a_second_process_is_refused_and_touches_nothing(tmp_path: Path) -> None:
    """While the first is stopped in its middle, before its first checkpoint."""
    command = (*SMALL, "steps=100", "checkpoint_every=80")
    with start(tmp_path, *command, "hydra.run.dir=a") as process:
        process.wait_for(tmp_path / "a/metrics.csv", "\n50,")
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)  # it has stopped
        before = contents(tmp_path)
        for second in ("resume=a", "hydra.run.dir=a"):
            status, out, err = finished(tmp_path, second)
            assert (status, out) == (2, "")
            assert err.startswith("error: ")
            assert len(err.splitlines()) == 1
        assert contents(tmp_path) == before
        process.send_signal(signal.SIGCONT)
        process.communicate()
    assert process.returncode == 0
    assert finished(tmp_path, *command, "hydra.run.dir=whole")[0] == 0
    same_run(tmp_path / "whole", tmp_path / "a")


def test_what_is_refused_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    ran(tmp_path / "a", *QUICK, "steps=40")
    before = contents(tmp_path / "a")
    for wrong, words in {
        ("steps=39",): "steps is 39; allowed: at least 40, which the run has made",
        ("steps=80", "model.hidden_size=9"): "another run: model.hidden_size is 9, and 32 in the",
    }.items():
        with pytest.raises(SettingError, match=words):
            ran(tmp_path / "a", *QUICK, *wrong, resume=True)
        assert contents(tmp_path / "a") == before


def test_rows_past_the_checkpoint_are_dropped_by_their_step(tmp_path: Path) -> None:
    """Also a last row of which a part is missing, and rows that a later checkpoint had."""
    ran(tmp_path / "whole", *SMALL, "steps=60")
    ran(tmp_path / "a", *SMALL, "steps=30")
    made = checkpoint.load(tmp_path / "a")
    shutil.copytree(tmp_path / "whole", tmp_path / "b")
    checkpoint.save(tmp_path / "b", made)
    for name, more in (("metrics.csv", "12,loss/tr"), ("gradient_flow.csv", "1")):
        with (tmp_path / "b" / name).open("a") as file:
            file.write(more)
    ran(tmp_path / "b", *SMALL, "steps=60", resume=True)
    same_run(tmp_path / "whole", tmp_path / "b")


def test_a_run_without_a_checkpoint_begins_anew_unless_it_ended(tmp_path: Path) -> None:
    settings = (*QUICK, "checkpoint_every=null")
    ran(tmp_path / "a", *settings, "steps=5")
    before = contents(tmp_path / "a")
    with pytest.raises(SettingError, match=r"is completed, and has no checkpoint\.pt"):
        ran(tmp_path / "a", *settings, "steps=9", resume=True)
    assert contents(tmp_path / "a") == before
    (tmp_path / "a/summary.json").unlink()
    ran(tmp_path / "a", *settings, "steps=9", resume=True)
    ran(tmp_path / "b", *settings, "steps=9")
    assert rows_of(tmp_path / "a") == rows_of(tmp_path / "b")
    assert len(list((tmp_path / "a").glob("events*"))) == 1


def test_an_extended_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """Also if the first end was no step that is logged, and if the clock has gone back since."""
    settings = ("model=lstm", *SMALL, "clip_norm=0.05")
    ran(tmp_path / "whole", *settings, "steps=50")
    ran(tmp_path / "extended", *settings, "steps=17")
    shutil.copytree(tmp_path / "extended", tmp_path / "short")
    for steps in (17, 32, 50):  # the first is the same again
        for path in (tmp_path / "extended").glob("events*"):
            path.rename(path.with_name(path.name.replace("tfevents.1", "tfevents.9")))
        ran(tmp_path / "extended", *settings, f"steps={steps}", resume=True)
        if steps == 17:
            same_run(tmp_path / "short", tmp_path / "extended")
    extends(tmp_path / "extended", tmp_path / "whole")
    former = set(rows_of(tmp_path / "extended")) - set(rows_of(tmp_path / "whole"))
    assert {row.split(",")[0] for row in former} == {"16", "31"}


def test_a_setting_that_an_old_run_lacks_has_its_neutral_value() -> None:
    old = Identity({"seed": 0, "model": {"init": {"gain": 2}}}, {}, {})
    model = {"init": {"gain": 2, "scale": 1}, "mask": None, "extra": {}}
    new = Identity({"seed": 0, "model": model, "dtype": None}, {}, {"model": "named anew"})
    assert new.difference(old) is None
    assert old.difference(new) is None
    for other in ({"scale": 2}, {"scale": True}, {"scale": 0}, {"scale": {"a": 3}}, {"gain": 1}):
        settings = {"seed": 0, "model": {"init": {"gain": 2} | other}}
        assert new._replace(settings=settings).difference(old)
    assert new._replace(files={"a.csv": "1"}).difference(old)


def test_a_diverging_run_diverges_when_resumed(tmp_path: Path) -> None:
    """The steps without a finite loss are counted on."""
    settings = ("model=rnn_orthogonal", "model.init.gain=100", "model.nonlinearity=relu")
    settings += ("data.min_days=50", "model.hidden_size=8", "log_every=3", "probe_every=null")
    whole = ran(tmp_path / "whole", *settings, "steps=100")
    ran(tmp_path / "resumed", *settings, "steps=10")
    resumed = ran(tmp_path / "resumed", *settings, "steps=100", resume=True)
    assert (resumed["status"], resumed["steps"]) == (whole["status"], 20) == ("diverged", 20)
    assert set(rows_of(tmp_path / "whole")) <= set(rows_of(tmp_path / "resumed"))


def test_a_resumed_run_is_not_completed_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran(tmp_path, *QUICK, "steps=5")
    monkeypatch.setattr(Run, "train", lambda _: os._exit(0))
    if (child := os.fork()) == 0:
        ran(tmp_path, *QUICK, "steps=9", resume=True)
    os.waitpid(child, 0)
    assert read_summary(tmp_path) is None


def test_a_signal_after_the_last_step_lets_the_run_end(tmp_path: Path) -> None:
    """Its exit status says that it came, so that a sweep stops too."""
    shared = (*QUICK, "steps=20", "sweep=s", "runs_dir=.")
    names = [run_name("rnn_cell", [*shared, f"seed={seed}"]) for seed in (0, 1)]
    first, second = (tmp_path / "s" / name for name in names)
    with start(tmp_path, "-m", *shared, "seed=0,1") as process:
        process.wait_for(first / "metrics.csv", "\n20,loss/validation")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate()
    assert process.returncode == 143
    assert "Traceback" not in err
    assert read_summary(first)["status"] == "completed"
    assert not (second / "metrics.csv").exists()


def test_a_full_disk_is_reported_in_one_line_and_loses_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk; then there is room again."""

    def little() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    command = (
        "data.max_days=8",
        "steps=60",
        "log_every=1",
        "probe_every=null",
        "checkpoint_every=5",
    )
    with start(tmp_path, *command, "hydra.run.dir=a", prepare=little) as full:
        _, err = full.communicate()
    assert full.returncode == 1
    assert err.startswith("error: the disk is full: ")
    assert len(err.splitlines()) == 1
    table = (tmp_path / "a/metrics.csv").read_text()
    assert table.startswith("step,tag,value\n0,")
    assert 5 <= checkpoint.load(tmp_path / "a")["updates"] < 60
    assert finished(tmp_path, "resume=a")[0] == 0
    assert finished(tmp_path, *command, "hydra.run.dir=whole")[0] == 0
    same_run(tmp_path / "whole", tmp_path / "a")


def test_checkpoints_come_when_they_are_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    monkeypatch.setattr(checkpoint, "save", lambda _, state: made.append(state["updates"]))
    ran(tmp_path / "a", *QUICK, "steps=10", "checkpoint_every=4")
    assert made == [4, 8, 10]
    made.clear()
    ran(tmp_path / "b", *QUICK, "steps=10", "checkpoint_every=null")
    assert made == []


def test_pictures_come_at_the_end_and_at_a_checkpoint_older_than_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(watch.GradientWatch, "_draw", lambda self, *_: drawn.append(self.last[0]))
    settings = (*SMALL, "steps=10", "checkpoint_every=4", "probe_every=7")
    ran(tmp_path / "a", *settings)
    assert drawn == [10]
    monkeypatch.setattr(watch, "REDRAW_SECONDS", 0)
    ran(tmp_path / "b", *settings)
    assert drawn == [10, 0, 7, 10]


@pytest.mark.usefixtures("pictures")
def test_no_probe_is_drawn_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many checkpoints come between two probes."""
    drawn: list[tuple[str, int]] = []
    monkeypatch.setattr(
        recorder.Recorder, "figure", lambda _, tag, __, step: drawn.append((tag, step))
    )
    monkeypatch.setattr(watch, "REDRAW_SECONDS", 0)
    ran(tmp_path / "a", *SMALL, "steps=6", "checkpoint_every=1", "probe_every=4")
    profiles = [step for tag, step in drawn if tag == "picture/profile"]
    assert profiles == [0, 4, 6]
    assert [step for tag, step in drawn if tag == "picture/heatmap"] == [4, 6]
