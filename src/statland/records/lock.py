"""One process a run folder: the second that would train in it is refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from statland.settings import SettingError

NAME = ".lock"


class FolderTaken(SettingError):
    """Another process is training in the folder."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep a folder for this process, until the block or the process ends, however it does.

    Within the block it may be held again. Raises FolderTaken where another process has it, and
    SettingError where nothing can be written into the folder.
    """
    lock = FileLock(folder.resolve() / NAME, is_singleton=True, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise FolderTaken(f"{folder}: another process is training in this folder") from None
    except OSError as error:
        raise SettingError(f"{folder} cannot be written to: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def remove_lock(folder: Path) -> None:
    """Remove what `held` leaves behind in a folder, while it is held."""
    (folder / NAME).unlink(missing_ok=True)
