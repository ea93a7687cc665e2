"""What a run is: its settings without the machine's part, and the price files that it reads.

run.json holds it. It is written before training, and takes precedence over all else in the folder.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from statland.records.files import check_plain
from statland.records.summary import write_json
from statland.settings import SettingError

NAME = "run.json"


class Identity(NamedTuple):
    """Two runs of one identity are the same run."""

    settings: dict[str, Any]  # resolved, without the machine's part
    files: dict[str, str]  # price file -> sha256 of its bytes; empty on a synthetic market
    choices: dict[str, str]  # the configs chosen: model, model/init, data, optimizer

    def difference(self, earlier: "Identity") -> str | None:
        """Return in one line how this run differs from an earlier one; None if it is the same.

        The names of the choices do not count. A setting that one of them lacks has its neutral
        value there: null, {} or 1. So a run stays the same when the bench gets a new setting.
        """
        ours, theirs = dict(_leaves(self.settings)), dict(_leaves(earlier.settings))
        for key in sorted(ours.keys() | theirs.keys()):
            our, their = ours.get(key), theirs.get(key)
            is_new = key not in ours or key not in theirs
            if our != their and not (is_new and is_neutral(our) and is_neutral(their)):
                return f"{key} is {our}, and {their} in the earlier run"
        changed = sorted(dict(self.files.items() ^ earlier.files.items()))
        if not changed:
            return None
        return f"the price files are not those that the run was trained on: {', '.join(changed)}"


def is_neutral(value: Any) -> bool:
    """Whether a run of before there was a setting has this value of it; True is no 1."""
    return repr(value) in ("None", "1", "1.0")


def _leaves(settings: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each setting that holds no others, by its dotted key."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{group}{name}.")
        else:
            yield f"{group}{name}", value


def write_identity(folder: Path, identity: Identity) -> None:
    """Write run.json, in one piece or not at all."""
    write_json(folder / NAME, identity._asdict())


def read_identity(folder: Path) -> Identity | None:
    """Return what run.json holds; None if there is none.

    Raises SettingError if it is damaged, or the folder holds links.
    """
    check_plain(folder)
    path = folder / NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = Identity(**{field: dict(values[field]) for field in Identity._fields})
        found.difference(found)  # it can be compared: nothing is nested too deeply
        return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise SettingError(f"{path} is damaged: {error!r}") from error
