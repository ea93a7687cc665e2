"""A model, a market and an initialisation of one's own, outside the project, as commands."""

import io
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from forked import run_script
from rich.console import Console

from statland.training.screen import print_stopped
from statland.training.step_log import StepLog

OWN = ROOT / "tests/two_files"
INIT = '''\
"""An initialisation."""

import torch


def sleepy(model, share):
    """No unit remembers anything."""
    with torch.no_grad():
        model.a.fill_(-share)
'''


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_script("train.py", "--config-dir", "mine", *arguments, folder=folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with my_package/ and, in mine/, the yaml files that name what it holds.

    Importing the package leaves a file behind.
    """
    package = tmp_path / "my_package"
    shutil.copytree(OWN, package, ignore=shutil.ignore_patterns("configs", "*pycache*"))
    (package / "__init__.py").write_text("open('imported', 'w').close()\n")
    (package / "inits.py").write_text(INIT)
    for path in OWN.glob("configs/*/*.yaml"):
        own = tmp_path / "mine" / path.relative_to(OWN / "configs")
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(path.read_text().replace("two_files.", "my_package."))
    (tmp_path / "mine/model/init").mkdir()
    (tmp_path / "mine/model/init/sleepy.yaml").write_text(
        "# forgets at once\n_target_: my_package.inits.sleepy\nshare: 900.0  # how soundly\n"
    )
    return tmp_path


COMMAND = ("model=diagonal", "model/init=sleepy", "data=pair", "steps=3", "hydra.run.dir=run")


def test_a_run_and_resuming_it(folder: Path) -> None:
    done = train(folder, *COMMAND, "trust=my_package")
    assert done.returncode == 0, done.stderr
    summary = json.loads((folder / "run/summary.json").read_text())
    assert summary["config"]["model"]["_target_"] == "my_package.diagonal.Diagonal"
    assert summary["config"]["model"]["init"] == {
        "_target_": "my_package.inits.sleepy",
        "share": 900.0,
    }
    assert summary["gradient"]["before"]["reach_days"] == 0  # it did forget
    # Nothing that the run has written is trusted by the command that resumes it.
    (folder / "imported").unlink()
    done = train(folder, "resume=run", "steps=5")
    assert done.returncode == 2
    assert "_target_ is my_package." in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (folder / "imported").exists()
    done = train(folder, "resume=run", "steps=5", "trust=my_package")
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "run/summary.json").read_text())["steps"] == 5


def test_the_command_that_a_stopped_run_prints_resumes_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:  # which a forked script inherits
        patched.setattr(StepLog, "add", stop)
        stopped = train(folder, *COMMAND[:-1], "folder=a run", "trust=[my_package]")
    line = next(line for line in stopped.stdout.splitlines() if line.startswith("resume with: "))
    python, script, *arguments = shlex.split(line.removeprefix("resume with: "))
    assert (python, script) == ("python", str(ROOT / "scripts/train.py"))
    done = run_script("train.py", *arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "a run/summary.json").read_text())["status"] == "completed"


def stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_the_script_is_where_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my bench").mkdir()
    for folder, expected in ((tmp_path, "my bench/train.py"), (tmp_path / "my bench", "train.py")):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [expected])
        screen = Console(file=io.StringIO(), markup=False)
        print_stopped(screen, Path("run"), 7, [])
        command = screen.file.getvalue().splitlines()[-1].removeprefix("resume with: ")
        assert shlex.split(command) == ["python", expected, "resume=run"]


def test_a_sweep_of_ones_own(folder: Path) -> None:
    sweep = ("-m", "model=diagonal,convolution", "data=pair", "steps=2", "sweep=s", "runs_dir=.")
    done = train(folder, *sweep, "trust=[my_package]")
    assert done.returncode == 0, done.stderr
    found = [json.loads(path.read_text()) for path in folder.glob("s/*/summary.json")]
    assert sorted(summary["choices"]["model"] for summary in found) == ["convolution", "diagonal"]


TRUSTING = "trust: [my_package]\n"
PRESETS = {
    "experiment/honest.yaml": "# @package _global_\n# a preset\nsteps: 3\n",
    "experiment/sly.yaml": f"# @package _global_\n# a preset\n{TRUSTING}",
    "model/sly.yaml": f"# @package _global_\n# a model\ndefaults: [diagonal@model]\n{TRUSTING}",
    "experiment/sweeping.yaml": (
        "# @package _global_\n# a preset with a sweep\n"
        "hydra:\n  sweeper:\n    params:\n      trust: '[my_package]'\n      seed: 0,1\n"
    ),
}
REFUSED = {
    "model/init=sleepy": "model.init._target_ is my_package.inits.sleepy; allowed: ",
    "model=convolution trust=[mine]": "packages named by trust= on the command line",
    "model=convolution experiment=sly": "trust is ['my_package'] in a config file",
    "-m model=diagonal seed=0,1": "no job of the sweep can begin: model._target_ is my_package",
    "model=sly": "model._target_ is my_package.diagonal.Diagonal; allowed: ",
    "-m model=convolution experiment=sweeping": "trust is set by a preset; allowed: on the",
}


@pytest.mark.parametrize("arguments", list(REFUSED))
def test_what_the_command_line_does_not_trust_is_not_imported(arguments: str, folder: Path) -> None:
    for name, text in PRESETS.items():
        (folder / "mine" / name).parent.mkdir(exist_ok=True)
        (folder / "mine" / name).write_text(text)
    before = sorted(folder.rglob("*"))
    done = train(folder, *arguments.split())
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert REFUSED[arguments] in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(folder.rglob("*")) == before
