"""Where a result came from: the commit, the versions, the command."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("statland", "torch", "numpy", "pandas", "hydra-core", "omegaconf", "tensorboard")


def provenance() -> dict[str, object]:
    """Return the git commit, whether the tree was clean (None outside git), versions, command."""
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return {
        "commit": commit,
        "clean": None if changes is None else changes == "",
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in PACKAGES},
        "command": sys.argv,
    }


def _git(*arguments: str) -> str | None:
    """Ask git about the folder that this file is in, whatever GIT_DIR is set to."""
    outside = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command, home = ["git", *arguments], Path(__file__).parent
    try:
        done = subprocess.run(
            command, cwd=home, env=outside, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
