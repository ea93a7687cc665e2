"""One process a run folder: the second that would train in it is refused."""

import contextlib
import os
from pathlib import Path

from statland.settings import SettingError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NAME = ".lock"

# The folders that this process has taken, and the open file that keeps each.
_taken: dict[Path, int] = {}


class FolderTaken(SettingError):
    """Another process is training in the folder."""


def take(folder: Path) -> None:
    """Keep a folder for this process until `release`, or until the process ends, however it does.

    Raises FolderTaken where another process has it.
    """
    folder = folder.resolve()
    if fcntl is None or folder in _taken:
        return
    file = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had it a moment ago has removed the name: then this file keeps nothing.
        is_it = os.fstat(file).st_ino == os.stat(folder / NAME).st_ino
    except (BlockingIOError, FileNotFoundError):
        is_it = False
    if not is_it:
        os.close(file)
        raise FolderTaken(f"{folder}: another process is training in this folder")
    _taken[folder] = file


def release(folder: Path) -> None:
    """Let a folder go, if this process has it."""
    folder = folder.resolve()
    if folder in _taken:
        with contextlib.suppress(FileNotFoundError):
            (folder / NAME).unlink()
        os.close(_taken.pop(folder))
