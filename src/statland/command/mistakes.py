"""Why Hydra cannot compose a command: one line, with what is allowed and the nearest right name."""

import errno
import itertools
import logging
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from statland.command.folders import forget_sweep
from statland.settings import SettingError, did_you_mean
from statland.training.stopping import Interrupted, ignore_signals

log = logging.getLogger(__name__)

CONFIGS = Path(__file__).parents[3] / "configs"

# Whether whoever gave the command wants tracebacks, where one line would do.
FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR") == "1"

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


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Let what Hydra refuses end the command with one line and exit status 1.

    With HYDRA_FULL_ERROR=1, and for an error inside a job, the traceback is shown.
    """
    # Hydra's parser would take what stands before -m, and refuse what stands behind it.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in MULTIRUN)
    if FULL_ERROR:
        yield
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra would print it and exit by itself
    try:
        yield
    except Interrupted:
        ignore_signals()  # all is saved: a second Ctrl-C would only show a traceback
        raise
    except KeyboardInterrupt:  # before or after the training, which saves
        sys.exit(130)
    except Exception as error:
        end_if_disk_is_full(error)
        ours = isinstance(error, HydraException | OmegaConfBaseException)
        frames = traceback.extract_tb(error.__traceback__)
        if not ours and any(frame.name == "run_job" for frame in frames):
            raise
        print(f"error: {explain(error, sys.argv[1:])}", file=sys.stderr)
        forget_sweep()
        sys.exit(1)
    finally:
        del os.environ["HYDRA_FULL_ERROR"]


def end_if_disk_is_full(error: BaseException) -> None:
    """Where that is what `error` says, end the command with one line and exit status 1."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        print(
            f"error: the disk is full: {error}; what was written stays readable, and the run goes "
            f"on with resume=, a sweep when it is given again",
            file=sys.stderr,
        )
        sys.exit(1)


def explain(error: Exception, arguments: list[str]) -> str:
    """One line on what is wrong with a command's arguments that Hydra met with `error`."""
    GlobalHydra.instance().clear()
    message = str(error) or type(error).__name__
    if error.__cause__ is not None:
        message += f": {(str(error.__cause__).splitlines() or [''])[0]}"
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            _find(arguments)
        except SettingError as found:
            return str(found)
        except Exception as other:  # what is not found here is left to Hydra's own words
            log.debug("not found", exc_info=other)
    return str(SettingError(f"{message}; HYDRA_FULL_ERROR=1 shows where"))


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
        config = compose("train", list(combination), return_hydra_config=True)
        params = config.hydra.sweeper.get("params") or {} if is_sweep else {}
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
        raise SettingError(f"{override.input_line}: allowed: {override.input_line.lstrip('+')}")
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
    override: Override, config: DictConfig, choices: Iterable[str], groups: list[str]
) -> None:
    """Raise SettingError where a key that is to be set is not there."""
    key = override.key_or_group
    if override.is_add() or override.is_force_add():
        return
    node, parts = config, key.split(".")
    for depth, part in enumerate(parts):
        if not isinstance(node, DictConfig) or part not in node:
            break
        if depth == len(parts) - 1:
            return
        node = node._get_node(part)
    prefix = "".join(f"{part}." for part in parts[:depth])
    siblings = []
    if isinstance(node, DictConfig):
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


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Every key of a config, dotted."""
    for key in config:
        node = config._get_node(key)
        yield f"{prefix}{key}"
        if isinstance(node, DictConfig) and not node._is_none():
            yield from _keys(node, f"{prefix}{key}.")
