"""Going on with a run that was stopped: by its own settings, wherever its folder is now."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from statland.command.logged import execute_logged
from statland.records import checkpoint
from statland.records.identity import NAME, Identity, read_identity
from statland.records.lock import held
from statland.settings import SettingError, flatten
from statland.training.config import KEPT, MACHINE, Settings, check
from statland.training.run import prepare


def resume(settings: Settings, choices: Mapping[str, str], typed: Sequence[str]) -> None:
    """Go on with the run in settings["resume"]; steps= may extend it.

    `settings` and `choices` are what the command line composes, `typed` its arguments. Raises
    SettingError where the folder is no run's, or another setting than its own is asked for.
    """
    folder = Path(str(settings["resume"]))
    if not os.path.isdir(folder):  # nor one whose name is too long
        raise SettingError(f"resume is {folder}, which is no run folder")
    if not any((folder / name).exists() for name in (NAME, checkpoint.NAME)):
        raise SettingError(f"resume is {folder}, which is no run folder: it has no {NAME}")
    with held(folder):
        identity, machine = stored(folder)
        asked = {override.split("=")[0].lstrip("+~") for override in typed}
        check_overrides(asked, identity, settings, choices)
        own: dict[str, Any] = dict(settings) | {k: v for k, v in machine.items() if k not in asked}
        own |= identity.settings | {"resume": None}
        if "steps" in asked:
            own["steps"] = settings["steps"]
        execute_logged(prepare(check(own), identity.choices), folder, resume=True)


def stored(folder: Path) -> tuple[Identity, dict[str, Any]]:
    """What a run is, by run.json; its machine's part, by its checkpoint."""
    identity, state = read_identity(folder), checkpoint.load(folder)
    if identity is None:
        raise SettingError(f"resume is {folder}, which is no run folder: it has no run.json")
    machine = {} if state is None else state["facts"]["machine"]
    return identity, {key: machine[key] for key in KEPT if key in machine}


def check_overrides(
    asked: set[str], identity: Identity, settings: Settings, choices: Mapping[str, str]
) -> None:
    """Refuse an argument that asks for another run; its own settings may be repeated."""
    ours = flatten(settings) | dict(choices)
    theirs = flatten(identity.settings) | identity.choices
    for key in sorted(asked - MACHINE - {"steps"}):
        if ours.get(key) != theirs.get(key):
            raise SettingError(
                f"{key} is {ours.get(key)}, and in the run to resume {theirs.get(key)}; "
                f"allowed: its own settings, but for steps"
            )
