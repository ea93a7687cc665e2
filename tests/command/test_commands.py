"""The command lines that people type, in processes of their own."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from forked import run_script

# The root README first: what it makes, the others may look at.
READMES = ("README.md", "configs/experiment/README.md", "scripts/README.md")
README = "\n".join((ROOT / path).read_text() for path in READMES)


def python(
    *arguments: str, folder: Path = ROOT, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        timeout=1200,
    )


def train(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return run_script("train.py", *arguments, folder=folder)


def test_a_run_and_its_folder(tmp_path: Path) -> None:
    done = train("model=lstm", "data=recall", "steps=3", "seed=7", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("runs/*/*")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", folder.parent.name)
    assert re.fullmatch(r"\d\d-\d\d-\d\d\.\d{6}-lstm-recall-7", folder.name)
    assert f"tensorboard --logdir {folder.relative_to(tmp_path)}" in done.stdout
    names = {re.sub(r"(tfevents).*", r"\1", path.name) for path in folder.iterdir()}
    wanted = {".hydra", "events.out.tfevents", "metrics.csv", "summary.json", "train.log"}
    assert wanted <= names
    config = yaml.safe_load((folder / ".hydra/config.yaml").read_text())
    assert (config["seed"], config["steps"]) == (7, 3)
    assert "after 3 updates" in (folder / "train.log").read_text()


def test_an_earlier_run_is_never_overwritten(tmp_path: Path) -> None:
    again = ("steps=2", "hydra.run.dir=here")
    assert train(*again, folder=tmp_path).returncode == 0
    before = {p: p.read_bytes() for p in (tmp_path / "here").rglob("*") if p.is_file()}
    second = train(*again, "model=lstm", folder=tmp_path)
    assert second.returncode == 2
    assert "here holds a run already" in second.stderr
    assert {p: p.read_bytes() for p in (tmp_path / "here").rglob("*") if p.is_file()} == before


def test_what_was_in_a_folder_before_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("a life's work")
    for place in (".", "sub"):
        refused = train("steps=-1", f"hydra.run.dir={place}", folder=tmp_path)
        assert refused.returncode == 2
        assert (
            refused.stderr
            == "error: steps is -1; allowed: a whole number from 0 to 1000000000000000\n"
        )
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    for wrong in ("thesis.tex", "thesis.tex/below", "''"):
        refused = train(f"runs_dir={wrong}", folder=tmp_path)
        assert refused.returncode == 2
        assert len(refused.stderr.splitlines()) == 1
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_readme_s_python_runs() -> None:
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        done = python("-c", block)
        assert done.returncode == 0, done.stderr
        assert "tensor([" in done.stdout


def commands() -> list[str]:
    """Every python command of these READMEs, continuation lines joined."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    parts = [part.split("  #")[0].strip() for line in lines for part in line.split("&&")]
    return [part for part in parts if part.startswith("python ")]


# What takes minutes, or needs what one of these leaves behind.
LONG = ("-m ", "compare.py", "benchmark.py", "runs/look", "runs/escape")


@pytest.mark.parametrize("command", [c for c in commands() if not any(w in c for w in LONG)])
def test_the_readme_s_commands_run(command: str, tmp_path: Path) -> None:
    _run_readme(command, tmp_path)


@pytest.mark.slow
def test_the_readme_s_long_commands_run_in_order(tmp_path: Path) -> None:
    for command in commands():
        if any(word in command for word in LONG):
            _run_readme(command, tmp_path)


def _run_readme(command: str, folder: Path) -> None:
    for name in ("scripts", "configs", "data"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    done = python(*shlex.split(command)[1:], folder=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout
