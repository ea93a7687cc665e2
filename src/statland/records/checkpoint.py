"""Resume points: written aside, flushed to disk, moved into place; the one before is kept."""

import contextlib
import json
import logging
import os
import sys
import zipfile
from pathlib import Path
from typing import Any, TypedDict

import torch

from statland.settings import SettingError

log = logging.getLogger(__name__)

NEWEST, BEFORE, ASIDE = "checkpoint.pt", "checkpoint.before.pt", "checkpoint.part"

FORMAT = 4  # what a state holds; one of another format is not read


class State(TypedDict):
    """What a checkpoint holds; dicts of plain values are kept as JSON, and tensors as they are."""

    updates: int  # made so far
    model: dict[str, Any]  # state_dict
    optimizer: dict[str, Any]  # state_dict
    identity: dict[str, Any]  # what run.json holds
    facts: dict[str, Any]  # what the run has seen so far
    sizes: dict[str, int]  # of the files that it appends to, in bytes
    longer: dict[str, Any] | None  # what a run of more steps goes on from


AS_JSON = ("identity", "facts", "sizes", "longer")

# What the facts of a run hold, and of which type each is.
FACTS = {"steps": dict, "lost": int, "validation": dict, "gradient": dict, "machine": dict}


class CheckpointError(SettingError):
    """No resume point of a run can be read."""


def save(folder: Path, state: State) -> None:
    """Make `state` the newest resume point of a run folder.

    Whenever the process or the machine stops, a complete one is in place. Needs nothing of the
    file system but renaming.
    """
    aside, newest = folder / ASIDE, folder / NEWEST
    if aside.exists() and not newest.exists():  # stopped between the two renames below
        os.replace(aside, newest)
    packed = {key: json.dumps(v) if key in AS_JSON else v for key, v in state.items()}
    with aside.open("wb") as file:
        torch.save(packed | {"format": FORMAT}, file)
        file.flush()
        os.fsync(file.fileno())
    if newest.exists():
        os.replace(newest, folder / BEFORE)
    os.replace(aside, newest)
    with contextlib.suppress(OSError):  # not every system opens or flushes a directory
        directory = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(directory)  # the names too
        finally:
            os.close(directory)


def load(folder: Path) -> State | None:
    """The newest resume point that can be read; None where a run has none.

    A truncated or corrupt one falls back, with a warning, to the one before. Raises CheckpointError
    where neither can be read. No checkpoint can run code: torch.load takes weights only.
    """
    aside_is_newest = not (folder / NEWEST).exists()
    names = [ASIDE if aside_is_newest else NEWEST, BEFORE]
    damaged = []
    for path in (folder / name for name in names):
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
    if aside_is_newest and not (folder / BEFORE).exists():
        return None  # stopped while the very first one was written
    if damaged:
        raise CheckpointError(f"no checkpoint to go on from: {'; '.join(damaged)}")
    return None


def _read(path: Path) -> State:
    """A checkpoint, its parts of the types that a State has; whatever error where it is damaged."""
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} does not have its checksum")
    packed = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(packed, dict) or packed.pop("format", None) != FORMAT:
        raise ValueError("not a checkpoint of this version of the bench")
    if packed.keys() != State.__annotations__.keys():
        raise ValueError("not a checkpoint: it lacks parts, or has others")
    state = {key: json.loads(v) if key in AS_JSON else v for key, v in packed.items()}
    for key, value in state.items():
        kind = int if key == "updates" else dict
        if not isinstance(value, kind) and not (key == "longer" and value is None):
            raise ValueError(f"not a checkpoint: {key} is of type {type(value).__name__}")
    facts = state["facts"]
    if not FACTS.items() <= {key: type(value) for key, value in facts.items()}.items():
        raise ValueError("not a checkpoint: its facts lack parts, or have others")
    for sizes in (state["sizes"], (state["longer"] or state)["sizes"]):
        if not sizes or not all(isinstance(size, int) for size in sizes.values()):
            raise ValueError("not a checkpoint: its sizes of files are none")
    return State(**state)  # type: ignore[typeddict-item]  # its keys were compared above
