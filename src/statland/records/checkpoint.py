"""The resume point of a run."""

import zipfile
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import nn

from statland.records.files import discard, replacing
from statland.records.identity import Identity, read_identity
from statland.records.summary import read_summary
from statland.settings import SettingError

NAME = "checkpoint.pt"

FORMAT = 5  # of what a State holds; a file of another format is refused


class State(TypedDict):
    """What a checkpoint holds; none of the next step's records have been made."""

    updates: int  # made so far
    model: dict[str, Any]  # state_dict
    optimizer: dict[str, Any]  # state_dict
    facts: dict[str, Any]  # what else the run goes on from, as plain values


def save(folder: Path, state: State) -> None:
    """Write the checkpoint of a run folder; the one before stays until the new one is on disk."""
    with replacing(folder / NAME) as file:
        torch.save({"format": FORMAT, **state}, file)


def load(folder: Path) -> State | None:
    """Return what the checkpoint of a run folder holds; None if there is none.

    Runs no code: torch.load takes weights and plain values only. Raises SettingError for a file
    that is damaged, or from another version of the bench.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not compare checksums
            damaged = archive.testzip()
        found = torch.load(path, map_location="cpu", weights_only=True)
        version = found.pop("format", None)
    except Exception as error:  # whatever a damaged file makes of the reader
        raise SettingError(f"{path} cannot be read: {str(error)[:200]}") from error
    if damaged:
        raise SettingError(f"{path} is damaged: wrong checksum of {damaged}")
    if version != FORMAT or found.keys() != State.__annotations__.keys():
        raise SettingError(f"{path} was written by another version of the bench")
    return State(**found)  # type: ignore[typeddict-item]  # its keys were compared above


def resume_point(folder: Path, identity: Identity) -> State | None:
    """Return what the run `identity` continues from in a folder; None if it has to begin anew.

    Then what an earlier try has recorded is removed. Raises SettingError, before anything is
    touched, if the folder holds another run; the same run with more steps is the same.
    """
    state, earlier, steps = load(folder), read_identity(folder), identity.settings["steps"]
    if earlier is not None:
        earlier = earlier._replace(settings=earlier.settings | {"steps": steps})
        if difference := identity.difference(earlier):
            raise SettingError(f"{folder} holds another run: {difference}")
    status = (read_summary(folder) or {}).get("status")
    if state is None and status in ("completed", "diverged"):
        raise SettingError(f"{folder} holds a run that is {status}, and has no {NAME}")
    if state is None or state["updates"] == 0:
        discard(folder)
        return None
    if (made := state["updates"]) > steps:
        raise SettingError(f"steps is {steps}; allowed: at least {made}, which the run has made")
    return state


def load_into(
    folder: Path, state: State, model: nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Give a model, and an optimizer, the state in the checkpoint of `folder`.

    Raises SettingError if it belongs to another model.
    """
    try:
        model.load_state_dict(state["model"])
        if optimizer is not None:
            optimizer.load_state_dict(state["optimizer"])
    except Exception as error:  # torch checks little of what it is given
        reason = str(error)[:200]
        raise SettingError(f"{folder / NAME} belongs to another model: {reason}") from error
