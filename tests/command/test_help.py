"""--help shows the yaml files in configs/ as they stand; each has comments."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

CONFIGS = ROOT / "configs"
FILES = sorted(path.relative_to(CONFIGS).with_suffix("") for path in CONFIGS.rglob("*.yaml"))
CHOICES = [path for path in FILES if path.parts[0] not in ("train", "hydra")]
PRESETS = [path for path in CHOICES if path.parent.name == "experiment"]

SETTING = re.compile(r"^ *[a-z]\w*:.*$", re.MULTILINE)


def helped(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "importtime", str(ROOT / "scripts/train.py"), "--help"]
    return subprocess.run(
        [*command, *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )


@pytest.fixture(scope="module")
def shown() -> str:
    return helped().stdout


def sections(text: str) -> dict[str, list[str]]:
    """The lines below each heading, such as model=."""
    return {part.split()[0]: part.splitlines()[1:] for part in text.strip().split("\n\n")}


def settings(path: Path) -> list[str]:
    """The lines of a file that set a key, without the defaults list and the part of Hydra."""
    text = (CONFIGS / f"{path}.yaml").read_text().split("\nhydra:")[0]
    return SETTING.findall(re.sub(r"^defaults:\n(?: .*\n)+", "", text, flags=re.MULTILINE))


@pytest.mark.parametrize("path", FILES, ids=str)
def test_each_file_and_each_setting_has_a_comment(path: Path) -> None:
    first = (CONFIGS / f"{path}.yaml").read_text().removeprefix("# @package _global_\n")
    assert first.startswith("# "), f"{path}.yaml begins without a comment that says what it is"
    for line in settings(path):
        if not line.endswith(":"):  # a group: its settings have comments
            assert " # " in line, f"{path}.yaml: {line} has no comment that says what it does"


@pytest.mark.parametrize("path", CHOICES, ids=str)
def test_each_choice_is_shown_with_its_first_comment_and_its_settings(
    path: Path, shown: str
) -> None:
    text = (CONFIGS / f"{path}.yaml").read_text().removeprefix("# @package _global_\n")
    about = text.splitlines()[0].removeprefix("# ")
    lines = sections(shown)[f"{path.parent}="]
    assert any(re.fullmatch(f"  {path.name} +{re.escape(about)}", line) for line in lines)
    if path not in PRESETS:
        for line in settings(path):
            assert lines.count(f"      {line}") == 1


def test_the_settings_of_train_yaml_are_shown(shown: str) -> None:
    for line in settings(Path("train")):
        assert sections(shown)["settings"].count(f"  {line}") == 1
    assert "override" not in shown


def test_help_is_quick_and_writes_nothing(tmp_path: Path) -> None:
    done = helped(folder=tmp_path)
    assert done.returncode == 0, done.stderr
    imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "hydra" in imported
    assert not imported & {"torch", "pandas", "numpy", "matplotlib", "tensorboard"}
    assert not list(tmp_path.iterdir())


def test_yaml_files_of_ones_own_are_shown(tmp_path: Path) -> None:
    for name, text in {
        "model/mine.yaml": "# mine; costs $5\ndefaults:\n  - rnn\n\nnum_layers: 3  # in ${units}\n",
        "data/broken.yaml": "a: [1",
        "experiment/first.yaml": "# @package _global_\n# my preset\nsteps: 3\n",
    }.items():
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    done = helped("--config-dir", "own", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    listed = {heading: "\n".join(lines) for heading, lines in sections(done.stdout).items()}
    mine = r"^  mine +mine; costs \$5\n      num_layers: 3  # in \$\{units\}$"
    assert re.search(mine, listed["model="], re.MULTILINE)
    assert re.search(r"^  broken$", listed["data="], re.MULTILINE)
    assert re.search(r"^  first +my preset$", listed["experiment="], re.MULTILINE)
    assert "steps: 3" not in listed["experiment="]
