"""What a setting may be, checked in one place.

A constructor states its bounds beside its arguments, and `check_arguments` holds values to them:

    def __init__(self, hidden_size: Annotated[int, Range(1, 2**14)], mode: Literal["a", "b"]): ...
"""

import difflib
import inspect
import math
import sys
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints


class SettingError(ValueError):
    """A setting, or a file that it names, that cannot be used. The message is one clear line."""

    def __init__(self, message: str) -> None:
        # It quotes what it was given, which may hold line breaks.
        super().__init__(" ".join(printable(message).split()))


def printable(text: str) -> str:
    """Return a text with spaces for control and bidi characters, escapes, and what is no UTF-8."""
    return "".join(c if c.isprintable() else " " for c in text)


class Range(NamedTuple):
    """The bounds of a number: `least` and `most` are allowed, `above` and `below` are not."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def holds(self, value: float) -> bool:
        """Whether `value` is finite and within the bounds."""
        is_finite = abs(value) <= sys.float_info.max  # an int may be beyond, and nan is not
        return is_finite and self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        names = {"at least": self.least, "above": self.above, "below": self.below}
        names["at most"] = self.most
        if math.isfinite(self.least) and math.isfinite(self.most):
            return f"from {_short(self.least)} to {_short(self.most)}"
        bounds = (f"{name} {_short(b)}" for name, b in names.items() if math.isfinite(b))
        return " and ".join(bounds)


Size = Annotated[int, Range(1, 2**14)]  # of a layer
Count = Annotated[int, Range(1, 1000)]  # of layers


def check_arguments(
    key: str, function: Any, values: Mapping[str, Any], given: Iterable[str] = (), hints: Any = None
) -> dict[str, Any]:
    """Return `values` as arguments of `function`, each of the type that its annotation states.

    `key` is the settings' group, for messages; arguments in `given` are no settings; `hints`
    replace the annotations. Raises SettingError for a setting that the function does not have, or
    lacks, or that is out of bounds.
    """
    known = inspect.signature(function).parameters
    allowed = [name for name in known if name not in set(given)]
    for name in values:
        if name not in allowed:
            has = ", ".join(other for other in values if other in allowed) or "none"
            raise SettingError(
                f"{key}.{name} is no setting of {function.__name__}; allowed: {has}"
                f"{did_you_mean(name, allowed)}"
            )
    for name in allowed:
        if known[name].default is inspect.Parameter.empty and name not in values:
            raise SettingError(f"{key}.{name} is missing; allowed: {key}.{name}=VALUE")
    if hints is None:
        annotated = function.__init__ if inspect.isclass(function) else function
        hints = get_type_hints(annotated, include_extras=True)
    return {n: check_value(f"{key}.{n}", v, hints.get(n, Any)) for n, v in values.items()}


def check_value(key: str, value: Any, hint: Any) -> Any:
    """Return `value` as the type that an annotation states, an int as a float where it asks so.

    Raises SettingError, which names the key, the value and what is allowed.
    """
    for kind, bounds in _alternatives(hint):
        if kind is Any or (kind is type(None) and value is None):
            return value
        if get_origin(kind) is Literal:
            if value in get_args(kind):
                return value
        elif kind in (int, float):
            is_number = isinstance(value, int | kind) and not isinstance(value, bool)
            if is_number and bounds.holds(value):
                return kind(value)
        elif isinstance(value, get_origin(kind) or kind) and value != "":
            return value
    names = [
        n for kind, _ in _alternatives(hint) if get_origin(kind) is Literal for n in get_args(kind)
    ]
    nearest = did_you_mean(value, map(str, names))
    texts = " or ".join(_described(*kind) for kind in _alternatives(hint))
    raise SettingError(f"{key} is {value!r}; allowed: {texts}{nearest}")


def choice(key: str, value: object, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of `allowed`, else raise SettingError."""
    return str(check_value(key, value, Literal[tuple(allowed)]))


def did_you_mean(name: object, allowed: Iterable[str]) -> str:
    """Return the end of a message: the one of `allowed` that is most like `name`, if one is."""
    nearest = difflib.get_close_matches(str(name), list(allowed), n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys; those that start with _ are left out."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif not str(key).startswith("_"):
            flat[f"{prefix}{key}"] = value
    return flat


def _alternatives(hint: Any) -> list[tuple[Any, Range]]:
    """The types that an annotation allows, each with its bounds."""
    if get_origin(hint) in (Union, types.UnionType):
        return [pair for part in get_args(hint) for pair in _alternatives(part)]
    if get_origin(hint) is Annotated:
        kind, *rest = get_args(hint)
        return [(kind, bounds) for bounds in rest if isinstance(bounds, Range)] or [(kind, Range())]
    return [(hint, Range())]


def _short(bound: float) -> str:
    """A bound in few characters; a whole number with all its digits."""
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def _described(kind: Any, bounds: Range) -> str:
    """A type as a message names it."""
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    if kind in (int, float):
        return f"a {'whole' if kind is int else 'finite'} number {bounds}".strip()
    names = {type(None): "null", bool: "true or false", str: "a text", list: "[...]", dict: "{...}"}
    return names.get(get_origin(kind) or kind, str(kind))
