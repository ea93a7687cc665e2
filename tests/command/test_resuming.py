"""resume= takes a run as its own record has it, run.json and the checkpoint, from any directory."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import contents
from forked import run_script

from statland.records import checkpoint

SMALL = ("data.max_days=8", "log_every=5", "validate_every=30", "probe_every=null")


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_script("train.py", *arguments, folder=folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of 20 steps, short, and one of 60, whole."""
    folder = tmp_path_factory.mktemp("runs")
    for name, steps in (("short", 20), ("whole", 60)):
        done = train(folder, *SMALL, f"steps={steps}", f"hydra.run.dir={name}", "model=lstm")
        assert done.returncode == 0, done.stderr
    return folder


def test_from_any_directory_a_folder_that_was_moved(runs: Path, tmp_path: Path) -> None:
    """Without the copy of its config, which nobody reads."""
    folder = tmp_path / "a name with=signs, and spaces"
    shutil.copytree(runs / "short", folder)
    shutil.rmtree(folder / ".hydra")
    (tmp_path / "elsewhere").mkdir()
    done = train(tmp_path / "elsewhere", f"resume=../{folder.name}", "steps=60")
    assert done.returncode == 0, done.stderr
    summary, whole = (
        json.loads((f / "summary.json").read_text()) for f in (folder, runs / "whole")
    )
    assert summary["steps"] == 60
    assert summary["validation"] == whole["validation"]  # an extended run is the uninterrupted one
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("content", ["", '{"settings": 1, "files": 2, "choices": 3}'])
def test_a_damaged_run_json_ends_the_command_in_one_line(
    content: str, runs: Path, tmp_path: Path
) -> None:
    shutil.copytree(runs / "short", tmp_path / "run")
    (tmp_path / "run/run.json").write_text(content)
    done = train(tmp_path, "resume=run", "steps=60")
    assert done.returncode == 2
    assert done.stderr.startswith("error: run/run.json ")
    assert len(done.stderr.splitlines()) == 1


def test_its_own_settings_may_be_repeated_and_no_others_given(runs: Path, tmp_path: Path) -> None:
    before = contents(runs / "whole")
    for arguments, key in (
        (["hydra.run.dir=whole", "seed=5"], "whole holds a run already"),
        (["folder=whole", "model=lstm"], "whole holds a run already"),
        (["resume=whole", "seed=5"], "seed is 5, and in the run to resume 0; allowed: its own"),
        (["resume=whole", "model=gru"], "model is gru, and in the run to resume lstm; allowed"),
        (["resume=whole", "steps=40"], "steps is 40; allowed: at least 60"),
    ):
        refused = train(runs, *arguments)
        assert refused.returncode == 2
        assert key in refused.stderr
    assert contents(runs / "whole") == before
    shutil.copytree(runs / "short", tmp_path / "run")
    own = (*SMALL, "model=lstm", "seed=0", "steps=21", "checkpoint_every=7", "threads=1")
    assert train(tmp_path, "resume=run", *own).returncode == 0
    assert checkpoint.load(tmp_path / "run")["facts"]["machine"]["checkpoint_every"] == 7


def test_a_run_of_another_device_resumes_on_the_processor(runs: Path, tmp_path: Path) -> None:
    """device is the machine's part: a run that was stopped on cuda resumes with device=cpu."""
    shutil.copytree(runs / "short", tmp_path / "run")
    packed = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    packed["facts"]["machine"]["device"] = "cuda"
    torch.save(packed, tmp_path / "run/checkpoint.pt")
    if not torch.cuda.is_available():
        assert "device is 'cuda', which is not here" in train(tmp_path, "resume=run").stderr
    assert train(tmp_path, "resume=run", "steps=40", "device=cpu").returncode == 0
