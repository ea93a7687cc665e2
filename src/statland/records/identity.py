"""What a run is: its settings without the machine's part, and the price files that it reads.

Written once, before training, and believed before all else in a run folder; .hydra/ beside it is a
copy for people to read.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from statland.records.summary import write_json
from statland.settings import SettingError

NAME = "run.json"


class Identity(NamedTuple):
    """Two runs of one identity are the same run."""

    settings: dict[str, Any]  # resolved, without the machine's part
    files: dict[str, str]  # price file -> sha256 of its bytes; empty on a synthetic market
    choices: dict[str, str]  # the configs chosen: model, model/init, data, optimizer

    def same_run(self, other: "Identity") -> bool:
        """Whether settings and files are the same; what the choices were called does not count."""
        return (self.settings, self.files) == (other.settings, other.files)


def write_identity(folder: Path, identity: Identity) -> None:
    """Write run.json, in one piece or not at all."""
    write_json(folder / NAME, identity._asdict())


def read_identity(folder: Path) -> Identity | None:
    """What run.json holds; None where there is none. Raises SettingError where it is damaged."""
    path = folder / NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SettingError(f"{path} cannot be read: {error}") from error
    return parse_identity(values, str(path))


def parse_identity(values: object, source: str) -> Identity:
    """An Identity from plain values, as run.json and checkpoints hold them.

    Raises SettingError, which names the source, where they are not one.
    """
    if not isinstance(values, Mapping) or values.keys() != set(Identity._fields):
        raise SettingError(f"{source} is damaged: it is not the identity of a run")
    if not all(isinstance(part, dict) for part in values.values()):
        raise SettingError(f"{source} is damaged: it is not the identity of a run")
    return Identity(**values)
