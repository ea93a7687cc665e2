"""A model or a market is two files: nothing else in the project is edited, tests included."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

# No part of the project, whoever has worked in it.
LEFT_OUT = (".git", "runs", "*venv*", "*cache*", ".hypothesis", "*.egg-info")
OWN = ROOT / "tests/two_files"
HOMES = {"diagonal": "models", "convolution": "models", "pair": "data"}


def copy_project(folder: Path) -> None:
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT), dirs_exist_ok=True)
    for name, home in HOMES.items():  # under another name: the package is in the tests there too
        shutil.copy(OWN / f"{name}.py", folder / f"src/statland/{home}/new_{name}.py")
        (yaml,) = OWN.glob(f"configs/*/{name}.yaml")
        target = f"_target_: statland.{home}.new_{name}."
        text = yaml.read_text().replace(f"_target_: two_files.{name}.", target)
        (folder / yaml.relative_to(OWN).with_name(f"new_{name}.yaml")).write_text(text)


@pytest.mark.slow
def test_with_two_more_models_and_a_market_the_fast_tests_pass(tmp_path: Path) -> None:
    copy_project(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
