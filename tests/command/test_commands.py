"""The command lines that people type."""

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


def test_a_run_and_its_folder(tmp_path: Path) -> None:
    words = ("model=lstm", "data=recall", "steps=3", "seed=7")
    done = run_script("train.py", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}
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


def commands() -> list[str]:
    """Every python command of these READMEs, continuation lines joined."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    parts = [part.split("  #")[0].strip() for line in lines for part in line.split("&&")]
    return [part for part in parts if part.startswith("python ")]


def shortened(command: str) -> list[str]:
    """A command's words, of at most 40 steps."""
    script, *words = shlex.split(command)[1:]
    if not script.endswith("train.py"):
        return [script, *words]
    steps = [word.partition("=")[2] for word in words if word.startswith("steps=")]
    return [
        script,
        *(w for w in words if w[:6] != "steps="),
        f"steps={min(map(int, [*steps, 40]))}",
    ]


def run_python(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_the_commands_of_the_readmes_run_in_order(tmp_path: Path) -> None:
    for name in ("scripts", "configs", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    for command in commands():
        done = run_python(*shortened(command), folder=tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stderr[-2000:]}"
        assert done.stdout
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        done = run_python("-c", block, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "flow.png").exists()
