"""Resume points: written aside, flushed to disk, moved into place; the one before is kept."""

import logging
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch

from statland.settings import SettingError

log = logging.getLogger(__name__)

NEWEST, BEFORE, ASIDE = "checkpoint.pt", "checkpoint.before.pt", "checkpoint.part"

FORMAT = 3  # what a state holds; one of another format is not read


class CheckpointError(SettingError):
    """No resume point of a run can be read."""


def save(folder: Path, state: dict[str, Any]) -> None:
    """Make `state` the newest resume point of a run folder.

    Whenever the process or the machine stops, a whole one is in place.
    """
    aside = folder / ASIDE
    with aside.open("wb") as file:
        torch.save(state | {"format": FORMAT}, file)
        file.flush()
        os.fsync(file.fileno())
    if (folder / NEWEST).exists():
        spare = folder / f"{BEFORE}.part"
        spare.unlink(missing_ok=True)
        os.link(folder / NEWEST, spare)
        os.replace(spare, folder / BEFORE)
    os.replace(aside, folder / NEWEST)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)  # the names too
    finally:
        os.close(directory)


def load(folder: Path) -> dict[str, Any] | None:
    """The newest resume point that can be read; None where a run has none.

    A truncated or corrupt one falls back, with a warning, to the one before. Raises CheckpointError
    where neither can be read. No checkpoint can run code: torch.load takes weights only.
    """
    damaged = []
    for path in (folder / name for name in (NEWEST, BEFORE)):
        if not path.exists():
            continue
        try:
            state = _read(path)
        except Exception as error:  # whatever a damaged file makes of the reader
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            damaged.append(f"{path} cannot be read: {reason}")
            continue
        for line in damaged:
            log.warning(line)
            print(f"warning: {line}", file=sys.stderr)
        return state
    if damaged:
        raise CheckpointError(f"no checkpoint to go on from: {'; '.join(damaged)}")
    return None


def _read(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} does not have its checksum")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError("not a checkpoint of this version of the bench")
    return state
