"""Where a result came from: the commit, the versions, the command."""

import os
import platform
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("statland", "torch", "numpy", "pandas", "hydra-core", "omegaconf", "tensorboard")


def provenance() -> dict[str, object]:
    """Return the git commit, whether the tree was clean (None outside git), versions, command."""
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    clean = None if changes is None else changes == ""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):  # the bench may be used without being installed
            versions[package] = version(package)
    return {"commit": commit, "clean": clean, "versions": versions, "command": sys.argv}


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
