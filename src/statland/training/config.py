"""The settings of a run: plain values, resolved and checked once, before anything is built."""

import os
from collections.abc import Mapping
from typing import Any, TypedDict

from statland.settings import SettingError, choice, did_you_mean, flatten, integer, number

GROUPS = ("model", "data", "optimizer")

# What describes the machine and the records' place, or what others have printed, and not the run:
# no part of its identity.
MACHINE = {"runs_dir", "sweep", "device", "threads", "resume", "trust", "checkpoint_every"}
MACHINE |= {"published"}
# Of these, what a resumed run takes over from the run that was stopped.
KEPT = ("device", "threads", "checkpoint_every", "published")
NOT_HYPERPARAMETERS = MACHINE | {"log_every", "validate_every", "probe_every"}


class Settings(TypedDict):
    """What configs/train.yaml holds once a command has been composed."""

    model: dict[str, Any]
    data: dict[str, Any]
    optimizer: dict[str, Any]
    seed: int
    steps: int
    clip_norm: float | None
    log_every: int
    validate_every: int
    probe_every: int | None
    checkpoint_every: int | None
    device: str
    dtype: str
    threads: int
    runs_dir: str
    sweep: str
    resume: str | None
    published: dict[str, Any]
    trust: list[str]


def check(values: Mapping[str, Any]) -> Settings:
    """`values` as Settings. Raises SettingError for the first run-wide setting that cannot be.

    What stands below model, data and optimizer is checked by `build`.
    """
    known = Settings.__annotations__
    for key in values:
        if key not in known:
            allowed = f"{', '.join(sorted(known))}{did_you_mean(key, known)}"
            raise SettingError(f"{key} is no setting; allowed: {allowed}")
    if missing := known.keys() - values.keys():
        raise SettingError(f"{min(missing)} is missing")
    for group in GROUPS:
        if not isinstance(values[group], Mapping):
            raise SettingError(f"{group} is {values[group]!r}; allowed: a choice of {group}=")
    integer("seed", values["seed"], 0, 2**63 - 1)
    integer("steps", values["steps"], 0, 10**15)
    integer("log_every", values["log_every"], 1)
    integer("validate_every", values["validate_every"], 1)
    for key in ("probe_every", "checkpoint_every"):
        if values[key] is not None:
            integer(key, values[key], 1)
    integer("threads", values["threads"], 1, max(os.cpu_count() or 1, 64))
    choice("device", values["device"], ("auto", "cpu", "cuda", "mps"))
    choice("dtype", values["dtype"], ("float32", "float64"))
    for key in ("runs_dir", "sweep"):
        if not isinstance(values[key], str) or not values[key].strip():
            raise SettingError(f"{key} is {values[key]!r}; allowed: a folder")
    if not isinstance(values["resume"], str | None):
        raise SettingError(f"resume is {values['resume']!r}; allowed: a run folder")
    if values["clip_norm"] is not None:
        number("clip_norm", values["clip_norm"], above=0)
    published = values["published"]
    refuse_targets("published", published)
    if not isinstance(published, Mapping) or not all(
        isinstance(printed, str | int | float) for printed in published.values()
    ):
        raise SettingError(f"published is {published!r}; allowed: {{WHAT: WHAT A PAPER PRINTED}}")
    trust = values["trust"]
    if not isinstance(trust, list) or not all(
        isinstance(n, str) and n.isidentifier() for n in trust
    ):
        raise SettingError(f"trust is {trust!r}; allowed: [names of Python packages]")
    return Settings(**values)  # type: ignore[typeddict-item]  # its keys were compared above


def refuse_targets(key: str, value: Any) -> None:
    """Refuse a `_target_` inside a setting, however deep: only a group names a class."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            raise SettingError(
                f"{key}._target_ is {value['_target_']}; allowed: _target_ in model, model.init, "
                f"data and optimizer alone"
            )
        for name, item in value.items():
            refuse_targets(f"{key}.{name}", item)
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            refuse_targets(f"{key}[{place}]", item)


def without_machine(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that make a run what it is."""
    return {key: value for key, value in settings.items() if key not in MACHINE}


def hyperparameters(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that tell results apart, as flat keys."""
    return {k: v for k, v in flatten(settings).items() if k not in NOT_HYPERPARAMETERS}


def difference(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first setting in which two runs differ, as key and both values; None where none does."""
    ours, theirs = flatten(without_machine(now)), flatten(without_machine(earlier))
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            return f"{key}: {theirs.get(key)}, not {ours.get(key)}"
    return None
