"""The settings of a run: plain values, resolved and checked once, before anything is built."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypedDict, get_type_hints

from statland.settings import Range, SettingError, check_value, did_you_mean, flatten

# Settings of the machine, of where records go and of what others printed: no part of a run's
# identity.
MACHINE = {"runs_dir", "sweep", "device", "threads", "resume", "trust", "checkpoint_every"}
MACHINE |= {"folder", "published"}
# Of these, what a resumed run takes from the run that was stopped.
KEPT = ("device", "threads", "checkpoint_every", "published")

Every = Annotated[int, Range(1)]  # steps


class Settings(TypedDict):
    """What configs/train.yaml holds once a command has been composed."""

    model: dict[str, Any]
    data: dict[str, Any]
    optimizer: dict[str, Any]
    seed: Annotated[int, Range(0, 2**63 - 1)]
    steps: Annotated[int, Range(0, 10**15)]
    clip_norm: Annotated[float, Range(above=0)] | None
    log_every: Every
    validate_every: Every
    probe_every: Every | None
    checkpoint_every: Every | None
    device: Literal["auto", "cpu", "cuda", "mps"]
    dtype: Literal["float32", "float64"]
    threads: Annotated[int, Range(1, 1024)]
    runs_dir: str
    folder: str | None
    sweep: str
    resume: str | None
    published: dict[str, Any]
    trust: list[str]


def check(values: Mapping[str, Any]) -> Settings:
    """Return `values` as Settings. Raises SettingError for the first that is out of bounds.

    The settings of model, data and optimizer are checked by `build`.
    """
    known = get_type_hints(Settings, include_extras=True)
    if isinstance(name := values.get("trust"), str):
        values = {**values, "trust": [name]}
    for key in values:
        if key not in known:
            allowed = f"{', '.join(sorted(known))}{did_you_mean(key, known)}"
            raise SettingError(f"{key} is no setting; allowed: {allowed}")
    if missing := known.keys() - values.keys():
        raise SettingError(f"{min(missing)} is missing")
    for key, hint in known.items():
        check_value(key, values[key], hint)
    if not all(isinstance(v, str | int | float) for v in values["published"].values()):
        raise SettingError(
            f"published is {values['published']!r}; allowed: {{WHAT: WHAT A PAPER PRINTED}}"
        )
    if not all(isinstance(name, str) and name.isidentifier() for name in values["trust"]):
        raise SettingError(
            f"trust is {values['trust']!r}; allowed: names of Python packages, 'trust=[a,b]'"
        )
    return Settings(**values)  # type: ignore[typeddict-item]  # its keys were compared above


def without_machine(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that make a run what it is."""
    return {key: value for key, value in settings.items() if key not in MACHINE}


def hyperparameters(
    settings: Mapping[str, Any], choices: Mapping[str, str], varied: Iterable[str]
) -> dict[str, Any]:
    """Return what TensorBoard's HParams shows: settings that every run has, and those `varied`.

    TensorBoard draws no run that lacks one of the others' settings: - stands where there is none.
    """
    flat = flatten(settings)
    names = {"model": "model", "init": "model/init", "data": "data", "optimizer": "optimizer"}
    shown: dict[str, Any] = {name: choices.get(group, "-") for name, group in names.items()}
    keys = {"days": "data.max_days", "learning_rate": "optimizer.lr"}
    keys |= {"batch_size": "data.batch_size", "seed": "seed", "steps": "steps"}
    shown |= {name: flat.get(key, "-") for name, key in keys.items()}
    others = set(varied) - MACHINE - {*names.values(), *keys.values()}
    return shown | {key: flat[key] for key in sorted(others) if key in flat}
