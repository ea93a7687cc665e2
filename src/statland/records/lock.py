"""One process per run folder: a second is refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from statland.records.files import check_plain
from statland.settings import SettingError

NAME = ".lock"


class FolderTaken(SettingError):
    """Another process is training in the folder."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep a folder for this process until the block or the process ends.

    Within the block it may be held again. Raises FolderTaken if another process has it, and
    SettingError if nothing can be written into it, or it holds links.
    """
    check_plain(folder)
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
