"""What a run came to, as strict JSON: summary.json, never half-written."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "summary.json"


def write_summary(folder: Path, values: Mapping[str, Any]) -> None:
    """Write summary.json of a run folder."""
    write_json(folder / NAME, values)


def read_summary(folder: Path) -> dict[str, Any] | None:
    """What summary.json of a run folder holds; None where there is none that can be read."""
    try:
        read = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return read if isinstance(read, dict) and "status" in read else None


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write strict JSON aside and move it into place."""
    aside = path.with_suffix(path.suffix + ".part")
    text = json.dumps(finite_json(values), indent=2, allow_nan=False, ensure_ascii=False)
    aside.write_text(text + "\n", encoding="utf-8")
    os.replace(aside, path)


def finite_json(value: Any) -> Any:
    """What strict JSON can hold: a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): finite_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, bool | int | float | str | None) else str(value)
