"""Resuming a run: by its own settings, wherever its folder is now."""

import os
from pathlib import Path
from typing import Any

from statland.command.compose import choices_of_job, keys_of_job
from statland.records import checkpoint
from statland.records.identity import NAME, read_identity
from statland.settings import SettingError, flatten
from statland.training.config import KEPT, MACHINE, Settings, check, without_machine
from statland.training.run import Prepared, prepare


def prepare_resumed(settings: Settings) -> tuple[Prepared, Path]:
    """Return the run in the folder settings["resume"], which steps= may extend, and the folder.

    Raises SettingError where it is no run folder, and where the command line sets anything else to
    a value that is not the run's own.
    """
    folder = Path(str(settings["resume"]))
    if not os.path.isdir(folder):
        raise SettingError(f"resume is {folder}, which is no run folder")
    identity, state = read_identity(folder), checkpoint.load(folder)
    if identity is None:
        raise SettingError(f"resume is {folder}, which is no run folder: it has no {NAME}")
    keys = set(keys_of_job())
    ours = flatten(settings) | choices_of_job()
    theirs = flatten(identity.settings) | identity.choices
    for key in sorted(keys - MACHINE - {"steps"}):
        if ours.get(key) != theirs.get(key):
            raise SettingError(
                f"{key} is {ours.get(key)}, and in the run to resume {theirs.get(key)}; "
                f"allowed: its own settings, but for steps"
            )
    machine = state["facts"]["machine"] if state is not None else {}
    kept = {key: machine[key] for key in KEPT if key in machine and key not in keys}
    own: dict[str, Any] = dict(settings) | kept | without_machine(identity.settings)
    if "steps" in keys:
        own["steps"] = settings["steps"]
    return prepare(check(own), identity.choices), folder
