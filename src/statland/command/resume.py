"""Going on with a run that was stopped: by its own settings, wherever its folder is now."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose

from statland.command.compose import GROUPS, plain
from statland.command.logged import execute_logged
from statland.records import checkpoint
from statland.records.identity import NAME, Identity, parse_identity, read_identity
from statland.records.lock import held
from statland.settings import SettingError, flatten
from statland.training.config import KEPT, MACHINE, Settings, check, difference
from statland.training.prepare import prepare


def resume(settings: Settings, choices: Mapping[str, str], typed: Sequence[str]) -> None:
    """Go on with the run in settings["resume"]; steps= may extend it.

    `settings` and `choices` are what the command line composes, `typed` its arguments. Raises
    SettingError where the folder is no run's, or another setting than its own is asked for.
    """
    folder = Path(str(settings["resume"]))
    if not os.path.isdir(folder):  # nor one whose name is too long
        raise SettingError(f"resume is {folder}, which is no run folder")
    if not any((folder / name).exists() for name in (NAME, checkpoint.NEWEST, checkpoint.BEFORE)):
        raise SettingError(f"resume is {folder}, which is no run folder: it has no {NAME}")
    with held(folder):
        identity, machine = stored(folder)
        asked = {override.split("=")[0].lstrip("+~") for override in typed}
        check_overrides(asked, identity, settings, choices)
        own: dict[str, Any] = dict(settings) | {k: v for k, v in machine.items() if k not in asked}
        own |= identity.settings | {"resume": None}
        if "steps" in asked:
            own["steps"] = settings["steps"]
        for line in differences_elsewhere(folder, identity):
            print(f"note: {line}")
        execute_logged(prepare(check(own), identity.choices), folder, resume=True)


def stored(folder: Path) -> tuple[Identity, dict[str, Any]]:
    """What a run is, by its checkpoint, or by run.json before the first one; its machine's part."""
    state = checkpoint.load(folder)
    written = read_identity(folder)
    if state is None:
        if written is None:
            raise SettingError(f"resume is {folder}, which is no run folder: it has no run.json")
        return written, {}
    identity = parse_identity(state["identity"], f"{folder}/{checkpoint.NEWEST}")
    if written is not None and not written.same_run(identity):
        what = difference(identity.settings, written.settings) or "other price files"
        print(f"note: {folder}/run.json says {what}; the checkpoint's settings hold")
    machine = state["facts"].get("machine", {})
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


def differences_elsewhere(folder: Path, identity: Identity) -> list[str]:
    """What .hydra/ and configs/ say of the run and is not so: a line each. Neither is believed."""
    lines = []
    try:
        copy = yaml.safe_load((folder / ".hydra/config.yaml").read_text(encoding="utf-8"))
        if found := difference(copy | {"steps": identity.settings["steps"]}, identity.settings):
            lines.append(f".hydra/config.yaml has another {found}")
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):
        lines.append(".hydra/config.yaml cannot be read")
    try:
        typed = yaml.safe_load((folder / ".hydra/overrides.yaml").read_text(encoding="utf-8"))
        groups = [f"{group}={identity.choices[group]}" for group in GROUPS[:1]]
        now = plain(compose("train", [*groups, *typed]), typed)
        if found := difference(now | {"steps": identity.settings["steps"]}, identity.settings):
            lines.append(f"configs/ would give the run another {found}")
    except Exception:  # whatever a copy for people to read may hold
        return lines
    return [f"{line}; the run goes on with its own settings" for line in lines]
