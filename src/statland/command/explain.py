"""Why Hydra cannot compose a command: one line, with what is allowed and the nearest right name."""

import itertools
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from statland.settings import SettingError, did_you_mean

log = logging.getLogger(__name__)

CONFIGS = Path(__file__).parents[3] / "configs"

MULTIRUN = {"-m", "--multirun"}

# Launchers that are installed apart, and as what.
EXTRAS = {
    "joblib": "joblib",
    "ray": "ray",
    "ray_cluster": "ray",
    "submitit_local": "slurm",
    "submitit_slurm": "slurm",
}

# A sweep over several groups has so many combinations looked through for a key that one lacks.
COMBINATIONS = 64


def explain(error: Exception, arguments: list[str]) -> str:
    """One line on what is wrong with a command's arguments that Hydra met with `error`."""
    GlobalHydra.instance().clear()
    message = str(error) or type(error).__name__
    if error.__cause__ is not None:
        message += f": {(str(error.__cause__).splitlines() or [''])[0]}"
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            _check_inner_group(message, arguments)
            _find(arguments)
        except SettingError as found:
            return str(found)
        except Exception as other:  # what is not found here is left to Hydra's own words
            log.debug("not found", exc_info=other)
    return str(SettingError(f"{message}; HYDRA_FULL_ERROR=1 shows where"))


def _check_inner_group(message: str, arguments: list[str]) -> None:
    """Raise SettingError where Hydra's message is of model/init= with a model that has none."""
    found = re.match(r"Could not override '((\w+)/\w+)'\. No match in the defaults list", message)
    if found is None:
        return
    group, outer = found.groups()
    having = [
        name
        for name in GlobalHydra.instance().config_loader().get_group_options(outer)
        if group in compose("train", [f"{outer}={name}"], True).hydra.runtime.choices
    ]
    chosen = [text for text in arguments if text.startswith(f"{outer}=")] or [outer]
    raise SettingError(
        f"{group} is no setting where {chosen[-1]}; allowed with {outer}={', '.join(having)}"
    )


def _find(arguments: list[str]) -> None:
    """Raise SettingError for the first argument that cannot be composed, if it is found."""
    if any(argument.startswith(("--config", "-c")) for argument in arguments):
        return  # what is said then is of another config than ours
    overrides = [_parsed(argument) for argument in arguments if not argument.startswith("-")]
    is_sweep = not MULTIRUN.isdisjoint(arguments)
    loader = GlobalHydra.instance().config_loader()
    chosen: list[list[str]] = []
    for override in overrides:
        if override.is_sweep_override() and not is_sweep:
            raise SettingError(f"{override.input_line} is a sweep; allowed: with -m, or one value")
        if loader.get_group_options(override.key_or_group, ObjectType.CONFIG):
            chosen.append(_choices(override, loader))
    for combination in itertools.islice(itertools.product(*chosen), COMBINATIONS):
        composed = compose("train", list(combination), return_hydra_config=True)
        config: Any = OmegaConf.to_container(composed, resolve=False)
        params = config["hydra"]["sweeper"].get("params") or {} if is_sweep else {}
        presets = [_parsed(f"{key}={value}") for key, value in params.items()]
        for override in presets + overrides:
            if not loader.get_group_options(override.key_or_group, ObjectType.CONFIG):
                _check_key(override, config, combination, loader.list_groups(""))


def _parsed(argument: str) -> Override:
    key, equals, _ = argument.partition("=")
    if not key or not (equals or key.startswith("~")):
        raise SettingError(f"{argument} sets nothing; allowed: {key or 'KEY'}=VALUE")
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException as error:
        raise SettingError(
            f"{argument} cannot be read: {str(error).splitlines()[0]}; allowed: KEY=VALUE, with "
            f"quotes round a text of special characters"
        ) from error


def _choices(override: Override, loader: ConfigLoader) -> list[str]:
    """The choices of a config group that an override makes, as overrides."""
    group = override.key_or_group
    options = sorted(loader.get_group_options(group, ObjectType.CONFIG))
    if override.is_delete():
        return [f"~{group}"]
    if override.is_force_add():
        raise SettingError(
            f"{override.input_line}: allowed: {str(override.input_line).lstrip('+')}"
        )
    texts = (
        list(override.sweep_string_iterator())
        if override.is_discrete_sweep()
        else [override.get_value_string()]
    )
    names = [text.split("=", 1)[-1].strip("'\"") for text in texts]
    for name in names:
        if name in options or (group == "experiment" and name == "null"):
            continue
        if group == "hydra/launcher" and name in EXTRAS:
            raise SettingError(
                f"{group} is {name!r}, which is not installed; allowed after "
                f"pip install -e '.[{EXTRAS[name]}]'"
            )
        allowed = ", ".join(options)
        raise SettingError(f"{group} is {name!r}; allowed: {allowed}{did_you_mean(name, options)}")
    if override.is_add() and group != "experiment":
        raise SettingError(f"+{group}: {group} is chosen already; allowed: {group}={names[0]}")
    return [f"{group}={name}" for name in names]


def _check_key(
    override: Override, config: Mapping[str, Any], choices: Iterable[str], groups: list[str]
) -> None:
    """Raise SettingError where a key that is to be set is not in the config."""
    key = override.key_or_group
    if override.is_add() or override.is_force_add():
        return
    node: Any = config
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if not isinstance(node, Mapping) or part not in node:
            break
        if depth == len(parts) - 1:
            return
        node = node[part]
    prefix = "".join(f"{part}." for part in parts[:depth])
    siblings = []
    if isinstance(node, Mapping):
        siblings = [f"{prefix}{k}" for k in node if not k.startswith("_") and k != "hydra"]
    is_leaf = depth == len(parts) - 1 and depth > 0
    others = siblings if is_leaf else [*_keys(config), *groups, "model/init", "hydra/launcher"]
    where = " ".join(choice for choice in choices if choice.split("=")[0] == parts[0])
    raise SettingError(
        f"{key} is no setting{f' where {where}' if where else ''}; allowed: "
        f"{', '.join(siblings) or 'none below ' + prefix[:-1]}{_nearest(key, others, is_leaf)}"
    )


def _nearest(key: str, others: Iterable[str], is_leaf: bool) -> str:
    """The key most like this one; where only its last part is wrong, by that part alone."""
    if not is_leaf:
        return did_you_mean(key, others)
    prefix, _, last = key.rpartition(".")
    nearest = did_you_mean(last, (other.rpartition(".")[2] for other in others))
    return nearest.replace("mean ", f"mean {prefix}.")


def _keys(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key of a config, dotted."""
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")
