"""No code from a config: what a file may say to Hydra, which would call and import what it names.

Checked whenever Hydra composes a config, before it makes anything of that.
"""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from statland.settings import SettingError

# What nobody may change: Python's logging calls whatever class its settings name, Hydra whatever
# callback. Neither is needed here.
FIXED = ("hydra_logging", "job_logging", "callbacks")

# What Hydra itself fills in, and the sweep of a preset.
FREE = ("runtime", "mode", "overrides", "job.override_dirname", "job.config_name", "sweeper.params")

_compose = ConfigLoaderImpl.load_configuration
_as_typed: dict[tuple[str, ...], dict[str, Any]] = {}  # by the arguments: the same for all jobs


def guard_hydra() -> None:
    """Let Hydra refuse, from now on, a config in which a file decides what is called."""
    ConfigLoaderImpl.load_configuration = _checked  # type: ignore[method-assign]


def _checked(
    self: ConfigLoaderImpl,
    config_name: str | None,
    overrides: list[str],
    run_mode: RunMode,
    from_shell: bool = True,
    validate_sweep_overrides: bool = True,
) -> DictConfig:
    """Compose a config. Raises SettingError where its hydra part is not what the arguments say.

    That is train.yaml's with the arguments that begin with hydra: presets and all other files may
    add nothing to it but a sweep.
    """
    typed = [text for text in overrides if _may_be_typed(text)]
    key = (str(config_name), *typed, run_mode.name)
    if key not in _as_typed:
        with warnings.catch_warnings(action="ignore"):  # of what is refused in the next line
            usual = _compose(self, config_name and "train", typed, run_mode, from_shell)
        _check_sources(usual)
        _as_typed[key] = _flat(usual.hydra)
    config = _compose(self, config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
    found, allowed = _flat(config.hydra), _as_typed[key]
    for name in sorted(found.keys() | allowed.keys()):
        if found.get(name) != allowed.get(name):
            raise SettingError(
                f"hydra.{name} is {found.get(name)!r}; allowed: {allowed.get(name)!r} (of hydra "
                f"a file sets sweeper.params alone, and nothing logging or callbacks)"
            )
    lists: Any = OmegaConf.to_container(config.hydra.overrides, resolve=False)
    if sorted(lists["hydra"] + lists["task"]) != sorted(overrides):
        raise SettingError("hydra.overrides is set by a config file; allowed: arguments")
    if "hydra" in (str(key).lstrip("+~")[:5] for key in config.hydra.sweeper.get("params") or {}):
        raise SettingError("hydra.sweeper.params sets hydra's own settings; allowed: the bench's")
    return config


def _may_be_typed(argument: str) -> bool:
    """Whether an argument is of Hydra's settings, and one that may be."""
    key = argument.partition("=")[0].lstrip("+~").replace("/", ".")
    is_fixed = key.startswith(tuple(f"hydra.{k}" for k in FIXED)) or "_target_" in argument
    return key.startswith("hydra.") and not is_fixed


def _check_sources(config: DictConfig) -> None:
    """Refuse a folder of --config-dir that puts something else in the place of Hydra's own parts.

    It may add a launcher under a name of its own, which is used where the command line names it.
    """
    for source in config.hydra.runtime.config_sources:
        for path in Path(source.path).glob("hydra/*/*.yaml") if source.schema == "file" else ():
            if path.name in ConfigStore.instance().list(f"hydra/{path.parent.name}"):
                raise SettingError(f"{path} replaces a part of Hydra; allowed: another name")


def _flat(node: DictConfig) -> dict[str, Any]:
    """The settings of Hydra by dotted keys, uninterpolated, without those that are FREE."""
    values = OmegaConf.to_container(node, resolve=False)
    return {
        key: value
        for key, value in _leaves(values)
        if not any(f"{key}.".startswith(f"{free}.") for free in FREE)
    }


def _leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
