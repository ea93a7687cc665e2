"""What came out of a run, as strict JSON: summary.json."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from statland.records.files import replacing

NAME = "summary.json"


def write_summary(folder: Path, values: Mapping[str, Any]) -> None:
    """Write summary.json of a run folder."""
    write_json(folder / NAME, values)


def read_summary(folder: Path) -> dict[str, Any] | None:
    """Return what summary.json of a run folder holds; None if there is none that can be read."""
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and "status" in found else None


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write strict JSON, in one piece or not at all."""
    text = json.dumps(finite_json(values), indent=2, allow_nan=False, ensure_ascii=False)
    with replacing(path) as file:
        file.write(f"{text}\n".encode())


def finite_json(value: Any) -> Any:
    """Return a value as strict JSON can hold it: a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): finite_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def loss_name(validation: Mapping[str, Any]) -> str:
    """Return the name of the loss among the scores of a validation."""
    return "cross_entropy" if "cross_entropy" in validation else "mse"
