"""One Hydra job: a single run, a resumed run, or a job of a sweep."""

import importlib
import logging
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from statland.command.child import can_fork, run_in_child
from statland.command.compose import checked, choices_of_job, keys_of_job, plain
from statland.command.mistakes import describe, errors_in_one_line
from statland.command.resume import prepare_resumed
from statland.command.streams import ignore_broken_pipes
from statland.command.sweep import has_ended, identity_of, place, print_result
from statland.records.lock import FolderTaken, held
from statland.records.summary import read_summary, write_summary
from statland.settings import SettingError
from statland.training.run import Prepared, execute, prepare
from statland.training.stopping import SIGNALS, Interrupted, leave_worker

log = logging.getLogger(__name__)


@errors_in_one_line()
def main(config: DictConfig) -> None:
    """Run one Hydra job."""
    ignore_broken_pipes()  # in a launcher's worker process too
    if OmegaConf.is_missing(HydraConfig.get().job, "num"):
        run_single(plain(config))
    else:
        run_job_of_sweep(plain(config), Path(HydraConfig.get().sweep.dir))


def run_single(values: dict[str, Any]) -> None:
    """Train a new run, or resume one."""
    if params := HydraConfig.get().sweeper.get("params"):
        print(f"note: this is a single run; -m makes the sweep over {', '.join(params)}")
    settings, choices = checked(values), choices_of_job()
    if settings["resume"] is not None:
        execute_logged(*prepare_resumed(settings), resume=True)
        return
    time = f"{settings['runs_dir']}/{datetime.now():%Y-%m-%d/%H-%M-%S.%f}"
    usual = f"{time}-{choices['model']}-{choices['data']}-{settings['seed']}"
    execute_logged(prepare(settings, choices, keys_of_job()), Path(settings["folder"] or usual))


def run_job_of_sweep(settings: dict[str, Any], sweep: Path) -> None:
    """Run a job of a sweep, in a child process where that is possible; print how it went."""
    try:
        if not can_fork(str(HydraConfig.get().runtime.choices["hydra/launcher"])):
            train_job(settings, sweep)
            return
        if settings.get("probe_every") is not None:
            importlib.import_module("statland.gradients.figures")  # once, not in every child
        status = run_in_child(lambda: train_job(settings, sweep))
        if status - 128 in SIGNALS:
            raise Interrupted(status)
    except Interrupted as interrupted:
        leave_worker(interrupted)
        raise
    if status < 0:
        what = f"signal {-status}, {signal.strsignal(-status)}"
        record_failure(SettingError(f"its process was ended by {what}"), settings, sweep)
    elif status > 0:
        sys.exit(status)


@errors_in_one_line()
def train_job(settings: dict[str, Any], sweep: Path) -> None:
    """Train a job of a sweep, unless its run has ended before; print how it went.

    A job that fails is recorded as failed, and the others go on.
    """
    try:
        prepared = prepare(checked(settings), choices_of_job(), keys_of_job())
        folder = place(sweep, prepared.identity)
        with held(folder):
            if has_ended(folder):
                summary = read_summary(folder) or {}
                summary["status"] += " before"
            else:
                summary = execute_logged(prepared, folder, Console(quiet=True), resume=True)
        print_result(folder, summary)
    except FolderTaken as error:
        print(error, flush=True)
    except Exception as error:
        if describe(error) is None:
            traceback.print_exc()
        record_failure(error, settings, sweep)


def record_failure(error: Exception, settings: dict[str, Any], sweep: Path) -> None:
    """Write to a job's log and summary that it has failed, and why; print it."""
    folder = place(sweep, identity_of(settings))
    with logging_to(folder):
        log.error("failed: %s", error, exc_info=error)
    reason = str(SettingError(describe(error) or f"{type(error).__name__}: {error}"))  # one line
    facts = {"choices": choices_of_job(), "config": settings} | (read_summary(folder) or {})
    summary = facts | {"status": "failed", "error": reason}
    write_summary(folder, summary)
    print_result(folder, summary)


def execute_logged(
    prepared: Prepared, folder: Path, console: Console | None = None, resume: bool = False
) -> dict[str, Any]:
    """Train and measure, with a log and with a copy of the config for people to read."""
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / ".hydra/config.yaml"
    with held(folder), logging_to(folder):
        if not copy.exists():
            copy.parent.mkdir(exist_ok=True)
            text = yaml.safe_dump(dict(prepared.settings), sort_keys=False)
            copy.write_text(text, encoding="utf-8")
        return execute(prepared, folder, console, resume)


@contextmanager
def logging_to(folder: Path) -> Iterator[None]:
    """Append what is logged meanwhile to train.log of a run folder."""
    handler = logging.FileHandler(folder / "train.log", encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
