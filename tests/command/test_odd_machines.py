"""Screens that go away, ASCII alone, folders that cannot be written to, foreign git."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, ran

from statland.command.streams import ignore_broken_pipes
from statland.records.provenance import provenance
from statland.records.summary import read_summary
from statland.settings import SettingError

SMALL = ("steps=2", "data.max_days=6")


def python(
    folder: Path,
    script: str,
    *arguments: str,
    env: dict[str, str] | None = None,
    preexec_fn: Callable[[], None] | None = None,
    stdout: int = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / f"scripts/{script}.py"), *arguments],
        cwd=folder,
        env=os.environ | (env or {}),
        preexec_fn=preexec_fn,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
    )


def status(folder: Path) -> str:
    return str(json.loads((folder / "summary.json").read_text())["status"])


@pytest.fixture
def nobody_reads() -> int:
    """The end of a pipe to write to, the other end closed: what head leaves behind."""
    reads, writes = os.pipe()
    os.close(reads)
    return writes


def test_a_run_goes_on_without_its_screen(tmp_path: Path, nobody_reads: int) -> None:
    """Also in ASCII, in a folder whose name matplotlib could take for a formula."""
    name = r"_a$x_^{\frac{"
    env = {"PYTHONIOENCODING": "ascii"}
    done = python(
        tmp_path, "train", *SMALL, f"hydra.run.dir='{name}'", env=env, stdout=nobody_reads
    )
    os.close(nobody_reads)
    assert (done.returncode, done.stderr) == (0, "")
    assert status(tmp_path / name) == "completed"
    assert (tmp_path / name / "heatmap.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "way"), [("basic", "closed"), ("joblib", "broken")])
def test_a_sweep_and_its_comparison_keep_their_exit_status(
    launcher: str, way: str, tmp_path: Path, nobody_reads: int
) -> None:
    """Without a screen; one of two jobs fails, as an RNN cell cannot have that initialisation."""
    away = {"preexec_fn": lambda: os.close(1)} if way == "closed" else {"stdout": nobody_reads}
    sweep = ("-m", "model/init=default,chrono", "sweep=s", *SMALL, f"hydra/launcher={launcher}")
    done = python(tmp_path, "train", *sweep, **away)
    assert (done.returncode, done.stderr) == (1, "")
    folder = tmp_path / "runs/s"
    assert sorted(status(path.parent) for path in folder.glob("*/summary.json")) == [
        "completed",
        "failed",
    ]
    done = python(tmp_path, "compare", "runs/s", **away)
    assert (done.returncode, done.stderr) == (0, "")
    os.close(nobody_reads)
    assert (folder / "compare.html").exists()


def test_whatever_the_streams_were(monkeypatch: pytest.MonkeyPatch, nobody_reads: int) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", open(nobody_reads, "w", encoding="ascii"))  # noqa: SIM115
    ignore_broken_pipes()
    for stream in (sys.stdout, sys.stderr):
        print("±" * 99_999, file=stream, flush=True)
    steady = sys.stderr
    ignore_broken_pipes()  # in a process that is forked
    assert sys.stderr is steady


def test_a_foreign_git_folder_is_not_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = provenance()
    if here["commit"] is None:
        pytest.skip("this is no git checkout")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_CEILING_DIRECTORIES"):
        monkeypatch.setenv(name, str(tmp_path))
    assert provenance() == here


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_to(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran(tmp_path, *SMALL)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SettingError, match=f"cannot be written to: {os.strerror(code)}"):
        ran(tmp_path, *SMALL, resume=True)


@pytest.mark.parametrize(("number", "after"), [(signal.SIGINT, 0.5), (signal.SIGTERM, 2.0)])
def test_a_signal_leaves_a_saved_run_or_none(
    number: signal.Signals, after: float, tmp_path: Path
) -> None:
    """While torch is imported, or later: nothing is written before the run can save itself."""
    arguments = [sys.executable, str(ROOT / "scripts/train.py"), "steps=500", "hydra.run.dir=a/b"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, cwd=tmp_path, **pipes) as process:
        time.sleep(after)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert err == ""
    summary = read_summary(tmp_path / "a/b")
    if summary is None:
        assert process.returncode == -number
    elif summary["status"] == "interrupted":
        assert process.returncode == 128 + number
        assert "resume=a/b" in out
