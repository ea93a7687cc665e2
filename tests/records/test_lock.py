"""One process a run folder, also where the system has no flock."""

import errno
import warnings
from pathlib import Path

import pytest
from filelock import FileLock, SoftFileLock, Timeout

from statland.records.lock import FolderTaken, held


def test_a_folder_is_held_again_by_the_same_process_alone(tmp_path: Path) -> None:
    with held(tmp_path), held(tmp_path):
        other = FileLock(tmp_path / ".lock")
        with pytest.raises(Timeout):
            other.acquire(blocking=False)
    taken = pytest.raises(FolderTaken, match="another process")
    with other.acquire(blocking=False), taken, held(tmp_path):
        pass


def test_where_the_system_has_no_flock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on some network mounts, and on platforms without fcntl."""
    fcntl = pytest.importorskip("fcntl")

    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", missing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # filelock says that it falls back
        with held(tmp_path), pytest.raises(Timeout):
            SoftFileLock(tmp_path / ".lock").acquire(blocking=False)
        with held(tmp_path):  # and it is free again
            pass
