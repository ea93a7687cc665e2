"""What a setting may be: checked once, and refused with the key, the value and what may be."""

import difflib
import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any


class SettingError(ValueError):
    """A setting, or a file that it names, that cannot be used. The message is one clear line."""

    def __init__(self, message: str) -> None:
        # It quotes what it was given, which may hold line breaks or control characters.
        printable = "".join(c if c.isprintable() else " " for c in message)
        super().__init__(" ".join(printable.split()))


def integer(key: str, value: object, least: int, most: float | None = None) -> int:
    """Return `value` if it is a whole number from `least` to `most`, else raise SettingError."""
    limits = f"at least {least}" if most is None else f"from {least} to {most}"
    most = math.inf if most is None else most
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise SettingError(f"{key} is {value!r}; allowed: a whole number {limits}")


def number(
    key: str,
    value: object,
    least: float = -math.inf,
    most: float = math.inf,
    *,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """Return `value` if it is a finite number within the bounds, else raise SettingError.

    `least` and `most` are allowed themselves; `above` and `below` are not.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        inside = (
            abs(value) <= sys.float_info.max  # an int may be beyond, and nan is not
            and least <= value <= most
            and (above is None or value > above)
            and (below is None or value < below)
        )
        if inside:
            return float(value)
    bounds = []
    if above is not None:
        bounds.append(f"above {above:g}")
    if least > -math.inf:
        bounds.append(f"at least {least:g}")
    if below is not None:
        bounds.append(f"below {below:g}")
    if most < math.inf:
        bounds.append(f"at most {most:g}")
    allowed = " ".join(["a finite number", " and ".join(bounds)]).strip()
    raise SettingError(f"{key} is {value!r}; allowed: {allowed}")


def choice(key: str, value: object, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of `allowed`, else raise SettingError."""
    names = list(allowed)
    if value not in names:
        allowed = ", ".join(names)
        raise SettingError(f"{key} is {value!r}; allowed: {allowed}{did_you_mean(value, names)}")
    return str(value)


def did_you_mean(name: object, allowed: Iterable[str]) -> str:
    """For the end of a message: the one of `allowed` that is most like `name`, if one is."""
    nearest = difflib.get_close_matches(str(name), list(allowed), n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys; what starts with _ is left out."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif not str(key).startswith("_"):
            flat[f"{prefix}{key}"] = value
    return flat
