"""Going on with a run: its resume point, if it belongs to the run that is asked for."""

from collections.abc import Mapping
from pathlib import Path

import torch

from statland.models.base import SequenceModel
from statland.records import checkpoint
from statland.records.checkpoint import CheckpointError, State
from statland.records.files import check_records, discard, read_flow
from statland.records.identity import Identity, parse_identity, read_identity
from statland.records.summary import read_summary
from statland.settings import SettingError
from statland.training.config import difference


def resume_point(
    folder: Path, identity: Identity, model: SequenceModel, optimizer: torch.optim.Optimizer
) -> State | None:
    """Give model and optimizer the last checkpoint's state, and return it.

    None for a run that was stopped before its first, which begins anew: what it left is removed.
    Raises SettingError, before anything is touched, where the checkpoint, the records and the run
    that is asked for do not belong together; more steps may be asked for.
    """
    state = checkpoint.load(folder)
    if state is None:
        earlier = read_summary(folder)
        if earlier is not None and earlier["status"] in ("completed", "diverged"):
            raise SettingError(
                f"{folder} holds a run that is {earlier['status']}, and no checkpoint to go on from"
            )
        if (stored := read_identity(folder)) is not None:
            check_same_run(stored, identity)
        discard(folder)
        return None
    check_same_run(parse_identity(state["identity"], f"{folder}/checkpoint.pt"), identity)
    steps = identity.settings["steps"]
    if state["updates"] > steps:
        raise SettingError(
            f"steps is {steps}, and the run has made {state['updates']} already; allowed: at "
            f"least so many"
        )
    if state["updates"] < steps and state["longer"] is not None:
        longer = state["longer"]
        state["sizes"], state["facts"] = longer["sizes"], state["facts"] | {"steps": longer["log"]}
        state["longer"] = None
    check_records(folder, state["sizes"])
    read_flow(folder)
    take_over(folder, state, model, optimizer)
    return state


def take_over(
    folder: Path,
    state: State,
    model: SequenceModel,
    optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """Give a model, and an optimizer, a checkpoint's state; CheckpointError where it is another's.

    `folder` is named in the message.
    """
    try:
        model.load_state_dict(state["model"])
        if optimizer is not None:
            optimizer.load_state_dict(state["optimizer"])
    except Exception as error:  # torch checks little of what it is given
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(f"{folder}: the checkpoint is of another model: {reason}") from error


def check_same_run(earlier: Identity, now: Identity) -> None:
    """Raise SettingError where the run that is asked for is another one, but for more steps."""
    longer = earlier.settings | {"steps": now.settings["steps"]}
    if (different := difference(longer, now.settings)) is not None:
        raise SettingError(f"the folder holds a run with another {different}; allowed: its own")
    check_same_files(earlier.files, now.files)


def check_same_files(earlier: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise SettingError where a market reads other price files, by their names and hashes."""
    if earlier != now:
        names = earlier.keys() | now.keys()
        changed = sorted(name for name in names if earlier.get(name) != now.get(name))
        raise SettingError(
            f"the price files are not those that the run was trained on: {', '.join(changed)}; "
            f"allowed: the same files"
        )
