"""Run folders: none is ever written over, a sweep's are named for what differs, all are listed."""

import itertools
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from statland.records.lock import FolderTaken, take
from statland.settings import SettingError
from statland.training.stopping import stop_workers_on_signal

# What may stand in a folder's name on any system, and what TensorBoard shows as it is.
SAFE = re.compile(r"[A-Za-z0-9._+-]{1,40}")

# The longest folder name that most file systems take is 255.
LONGEST = 150

# The folders that were not there when the command was given, innermost first.
_new: list[Path] = []


class RunFolders(Callback):
    """What Hydra calls before it makes a run's folder or a sweep's, and after a sweep."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """End with one line and exit status 2 where the run's folder cannot be had."""
        folder = _folder(config, "run.dir")
        if any((folder / name).exists() for name in ("metrics.csv", ".hydra", "train.log")):
            _refuse(f"{folder} holds a run already; allowed: a new folder, or resume={folder}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            take(folder)  # before Hydra writes into it
        except OSError as error:
            _refuse(f"{folder} cannot be made: {error.strerror}; allowed: another runs_dir")
        except FolderTaken as error:
            _refuse(str(error))

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Name each job's folder after its number and what differs between the jobs.

        Where the sweep's folder holds another sweep, end with one line and exit status 2.
        """
        stop_workers_on_signal()
        folder = _folder(config, "sweep.dir")
        _refuse_another(folder, list(config.hydra.overrides.task))
        params = config.hydra.sweeper.params or {}
        texts = [*(f"{key}={value}" for key, value in params.items()), *config.hydra.overrides.task]
        try:
            overrides = OverridesParser.create(
                config_loader=GlobalHydra.instance().config_loader()
            ).parse_overrides(texts)
            _refuse_if_all_are_wrong(overrides, list(config.hydra.overrides.hydra))
        except HydraException:
            return  # which Hydra itself will meet
        if any(str(o).startswith("hydra.sweep.subdir=") for o in config.hydra.overrides.hydra):
            return
        with open_dict(config):
            config.hydra.overrides.hydra.append(f"hydra.sweep.subdir='{folder_name(overrides)}'")

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Let go of the job's configs, which Hydra would keep until the end of the sweep."""
        job_return.cfg = job_return.hydra_cfg = None

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print a table of all runs of the sweep; exit with status 1 where one has failed."""
        from rich.console import Console

        from statland.report import load
        from statland.report.comparison import runs_table

        folder = Path(config.hydra.sweep.dir)
        runs = load(folder)
        console = Console(markup=False, width=None if sys.stdout.isatty() else 120)
        console.print(runs_table(runs))
        console.print(f"compare them: python scripts/compare.py {folder}", soft_wrap=True)
        if (runs["status"] == "failed").any():
            sys.exit(1)


def _refuse(reason: str) -> NoReturn:
    print(f"error: {reason}", file=sys.stderr)
    sys.exit(2)


def _folder(config: DictConfig, name: str) -> Path:
    """The folder that hydra.`name` says; end with exit status 2 where no run could be kept there.

    What is not there yet of it is remembered, to be removed should no run begin.
    """
    if config.hydra.job.chdir or config.hydra.output_subdir != ".hydra":
        _refuse("hydra.job.chdir and hydra.output_subdir are set; allowed: as they come")
    for key in ("runs_dir", "sweep"):
        try:
            value = config[key]
        except OmegaConfBaseException as error:
            value = str(error).splitlines()[0]
        else:
            if isinstance(value, str) and value.strip():
                continue
        _refuse(f"{key} is {value!r}; allowed: a folder")
    HydraConfig.instance().set_config(config.copy())  # which the folders' names ask for
    try:
        folder = Path(str(OmegaConf.select(config.hydra, name, throw_on_missing=True)))
    except OmegaConfBaseException as error:
        _refuse(f"hydra.{name}: {str(error).splitlines()[0]}; allowed: a folder")
    _new[:] = [path for path in (folder, *folder.parents) if not path.exists()]
    return folder


def _refuse_if_all_are_wrong(overrides: list[Override], of_hydra: list[str]) -> None:
    """End with one line and exit status 2 where no job of a sweep could begin.

    Where one could, the others fail one by one, and are listed.
    """
    import torch  # not above: --help should not wait for it

    from statland.training.build import build, check

    texts = {}  # of the same key the last one holds
    for override in overrides:
        key = override.get_key_element()
        swept = override.is_discrete_sweep()
        values = (
            override.sweep_string_iterator() if swept else [override.get_value_element_as_str()]
        )
        texts[key] = [f"{key}={value}" for value in values]
    first = None
    for job in itertools.product(*texts.values()):
        try:
            config = compose("train", [*of_hydra, *job])
            if config.resume is not None:
                raise SettingError(
                    f"resume is {config.resume}; allowed: without -m (the same -m command again "
                    f"goes on where each job was)"
                )
            check(config)
            build(config, torch.device("cpu"))
            return
        except SettingError as error:
            first = first or error
    _refuse(f"no job of the sweep can begin: {first or 'it has none'}")


def forget_sweep() -> None:
    """Remove the folder that Hydra made for a sweep of which no job began, and empty parents."""
    if not HydraConfig.initialized():
        return
    folder = Path(HydraConfig.get().sweep.dir)
    if [path.name for path in folder.glob("*")] == ["multirun.yaml"]:
        (folder / "multirun.yaml").unlink()
        remove_new()


def remove_new() -> None:
    """Remove the folders that this command has made, as far as they are empty."""
    for folder in _new:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _refuse_another(folder: Path, overrides: list[str]) -> None:
    """A repeated sweep is the same command: other jobs would mix with those that are there."""
    try:
        earlier = OmegaConf.load(folder / "multirun.yaml").hydra.overrides.task
    except OSError:
        return
    ours, theirs = (
        {o for o in some if o.split("=")[0] not in ("sweep", "runs_dir", "device", "threads")}
        for some in (overrides, earlier)
    )
    if ours != theirs:
        _refuse(
            f"{folder} holds the sweep of {' '.join(earlier)}; allowed: the same again, or another "
            f"sweep=NAME"
        )


def folder_name(overrides: list[Override]) -> str:
    """The job's number and what differs, for Hydra to fill in: 3-lstm-max_days=50-seed=1.

    A choice of a config group is told by its name alone. A key whose values cannot all stand in a
    folder's name, such as a path, is left out: the number keeps the name unique.
    """
    name, filled = "${hydra.job.num}", 4
    final = {override.get_key_element().lstrip("+"): override for override in overrides}
    for key, override in final.items():
        if not override.is_sweep_override() or not override.is_discrete_sweep():
            continue
        values = [value.split("=")[-1].strip("'\"") for value in override.sweep_string_iterator()]
        if not all(SAFE.fullmatch(value) for value in values):
            continue
        is_group = key in ("model", "data", "optimizer", "model/init")
        short = "" if is_group else key.split(".")[-1] + "="
        filled += 1 + len(short) + max(map(len, values))
        if filled > LONGEST:
            break
        name += f"-{short}${{hydra:runtime.choices.{key}}}" if is_group else f"-{short}${{{key}}}"
    return name
