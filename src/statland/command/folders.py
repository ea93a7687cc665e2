"""What Hydra calls before it makes a folder for a run or a sweep, and after a sweep."""

import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from statland.command.compose import check_trust, checked
from statland.command.streams import table_console
from statland.command.sweep import ENDED, Progress, jobs_of, name_pattern, runs_in
from statland.records.lock import NAME as LOCK
from statland.records.lock import FolderTaken, held, remove_lock
from statland.records.summary import finite_json, read_summary
from statland.settings import SettingError
from statland.training.config import without_machine
from statland.training.stopping import end_on_signal, stop_workers_on_signal

# The folders that were not there when the command was given, innermost first.
_new: list[Path] = []


class RunFolders(Callback):
    """Refuses a folder that cannot be had before Hydra makes it; names a sweep's runs; lists them.

    Hydra itself writes nothing into a run folder: see output_subdir and job_logging in train.yaml.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """End with one line and exit status 2 where the run's folder cannot be had."""
        folder = _folder(config, "run.dir")
        if config.get("resume") is not None:
            return
        if any((folder / name).exists() for name in ("run.json", "metrics.csv", "train.log")):
            _refuse(f"{folder} holds a run already; allowed: a new folder, or resume={folder}")
        end_on_signal(remove_new)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with held(folder):
                remove_lock(folder)
        except OSError as error:
            _refuse_place(folder, error)
        except (FolderTaken, SettingError) as error:
            _refuse(str(error))

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Say how many jobs there are, and let each find its name and the sweep's progress.

        Where none could begin, end with one line and exit status 2.
        """
        stop_workers_on_signal()
        folder = _folder(config, "sweep.dir")
        _refuse_outside(config.runs_dir, config.sweep)
        params = config.hydra.sweeper.params or {}
        if "trust" in (str(key).lstrip("+") for key in params):
            _refuse("trust is set by a preset; allowed: on the command line")
        texts = [*(f"{key}={value}" for key, value in params.items()), *config.hydra.overrides.task]
        of_hydra = config.hydra.overrides.hydra
        try:
            overrides = OverridesParser.create(
                config_loader=GlobalHydra.instance().config_loader()
            ).parse_overrides(texts)
            check_trust(config.get("trust"), config.hydra.overrides.task)
            jobs, ended = count_jobs(overrides, list(of_hydra), folder)
        except SettingError as error:
            _refuse(str(error))
        except HydraException:
            return  # which Hydra itself will meet
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            remove_new()
            _refuse_place(folder, error)
        print(f"{jobs} jobs, {ended} of them done before, in {folder}", flush=True)
        of_hydra.append(f"hydra.job.name='{name_pattern(overrides)}'")
        of_hydra.extend(Progress.begin(folder, jobs))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Let go of the job's configs, which Hydra would keep until the end of the sweep."""
        job_return.cfg = job_return.hydra_cfg = None

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print a table of all runs of the sweep; exit with status 1 where one has failed."""
        from statland.command.unfinished import finish_others
        from statland.report import load
        from statland.report.tables import runs_table
        from statland.training.screen import print_where

        folder = Path(config.hydra.sweep.dir)
        finish_others(folder, config)
        for left in folder.glob(".jobs-*"):
            left.unlink(missing_ok=True)
        runs = load(folder)
        console = table_console()
        console.print(runs_table(runs))
        console.print(f"compare them: python scripts/compare.py {folder}", soft_wrap=True)
        print_where(console, folder)
        if (runs["status"] == "failed").any():
            sys.exit(1)


def _refuse(reason: str) -> NoReturn:
    print(f"error: {reason}", file=sys.stderr)
    sys.exit(2)


def _refuse_place(folder: Path, error: OSError) -> NoReturn:
    _refuse(f"{folder} cannot be made: {error.strerror}; allowed: another runs_dir")


def _folder(config: DictConfig, name: str) -> Path:
    """The folder that hydra.`name` says; end with exit status 2 where no run could be kept there.

    What is not there yet of it is remembered, to be removed should no run begin.
    """
    if config.hydra.job.chdir or config.hydra.output_subdir is not None:
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
    try:
        _new[:] = [path for path in (folder, *folder.parents) if not path.exists()]
    except OSError as error:  # too long a name
        _refuse_place(folder, error)
    return folder


def _refuse_outside(runs_dir: str, sweep: str) -> None:
    """A sweep's folder lies below the folder of runs."""
    if not (Path(runs_dir) / sweep).resolve().is_relative_to(Path(runs_dir).resolve()):
        _refuse(f"sweep is {sweep}, which leaves {runs_dir}; allowed: the name of a folder in it")


def count_jobs(overrides: list[Override], of_hydra: list[str], folder: Path) -> tuple[int, int]:
    """How many jobs a sweep has, and how many of them have ended before in its folder.

    Ends with one line and exit status 2 where no job could begin. Where one could, the others fail
    one by one, and are listed.
    """
    ended = [
        identity.settings
        for run, identity in runs_in(folder).items()
        if (read_summary(run) or {}).get("status") in ENDED
    ]
    jobs = before = 0
    first: SettingError | None = None
    can_begin = False
    for settings in jobs_of(overrides, of_hydra):
        jobs += 1
        if isinstance(settings, SettingError):
            first = first or settings
            continue
        before += finite_json(without_machine(settings)) in ended
        if not can_begin:
            try:
                _try_to_build(settings, [o.input_line for o in overrides if o.input_line])
                can_begin = True
            except SettingError as error:
                first = first or error
    if not can_begin:
        _refuse(f"no job of the sweep can begin: {first or 'it has none'}")
    return jobs, before


def _try_to_build(values: dict[str, Any], typed: list[str]) -> None:
    """Raise SettingError where a job of these settings, from these arguments, could not begin."""
    import torch  # not above: --help should not wait for it

    from statland.training.build import build

    if values.get("resume") is not None:
        raise SettingError(
            f"resume is {values['resume']}; allowed: without -m (the same -m command again goes on "
            f"where each job was)"
        )
    torch.set_num_threads(1)  # a job may be forked from this process: no threads before that
    build(checked(values, typed), torch.device("cpu"))


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
    for folder in filter(os.path.isdir, _new):
        if os.listdir(folder) == [LOCK]:  # a signal came while it was tried
            with suppress(FolderTaken), held(folder):
                remove_lock(folder)
        if not os.listdir(folder):
            folder.rmdir()
