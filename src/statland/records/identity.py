"""What a run is: its settings without the machine's part, and the price files that it reads.

run.json holds it. It is written before training, and takes precedence over all else in the folder.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from statland.records.summary import write_json
from statland.settings import SettingError

NAME = "run.json"

_Settings = Mapping[str, Any]


class Identity(NamedTuple):
    """Two runs of one identity are the same run."""

    settings: dict[str, Any]  # resolved, without the machine's part
    files: dict[str, str]  # price file -> sha256 of its bytes; empty on a synthetic market
    choices: dict[str, str]  # the configs chosen: model, model/init, data, optimizer

    def same_run(self, earlier: "Identity") -> bool:
        """Return whether settings and files agree; the names of the choices do not count."""
        return self.difference(earlier) is None

    def difference(self, earlier: "Identity") -> str | None:
        """Return in one line how this run differs from an earlier one; None if it does not."""
        for line in _different(self.settings, earlier.settings):
            return line
        names = self.files.keys() | earlier.files.keys()
        changed = sorted(n for n in names if self.files.get(n) != earlier.files.get(n))
        if not changed:
            return None
        return f"the price files are not those that the run was trained on: {', '.join(changed)}"


def _different(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], group: str = ""
) -> Iterator[str]:
    """Yield a line for each setting in which two runs differ.

    A setting that one of them lacks has its neutral value there: null, {} or 1. So a run stays the
    same run when the bench gets a new setting.
    """
    for name in sorted(ours.keys() | theirs.keys()):
        our, their = ours.get(name), theirs.get(name)
        if isinstance(our, Mapping) or isinstance(their, Mapping):
            our, their = (v if isinstance(v, Mapping) else {} for v in (our, their))
            yield from _different(our, their, f"{group}{name}.")
        elif our != their:
            present = our if their is None else their
            is_neutral = present == 1 and not isinstance(present, bool)
            if not (is_neutral and (name not in ours or name not in theirs)):
                yield f"{group}{name} is {our}, and {their} in the earlier run"


def write_identity(folder: Path, identity: Identity) -> None:
    """Write run.json, in one piece or not at all."""
    write_json(folder / NAME, identity._asdict())


def read_identity(folder: Path) -> Identity | None:
    """Return what run.json holds; None if there is none. Raises SettingError if it is damaged."""
    path = folder / NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SettingError(f"{path} cannot be read: {error}") from error
    parts = values if isinstance(values, dict) else {}
    if parts.keys() != set(Identity._fields) or not all(
        isinstance(p, dict) for p in parts.values()
    ):
        raise SettingError(f"{path} is damaged: it is not the identity of a run")
    return Identity(**values)
