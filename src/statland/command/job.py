"""One Hydra job: a run by itself, one of a sweep, or one that is gone on with."""

import gc
import importlib
import logging
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from statland.command.child import can_fork, run_in_child
from statland.command.compose import (
    as_far_as_resolved,
    checked,
    choices_of_job,
    overrides_of_job,
    plain,
)
from statland.command.folders import remove_new
from statland.command.logged import execute_logged, logging_to
from statland.command.mistakes import end_if_disk_is_full, refusals_in_one_line
from statland.command.resume import resume
from statland.command.streams import steady_streams
from statland.command.sweep import ENDED, Progress, place, run_of, runs_in, without_run
from statland.records.lock import FolderTaken, held
from statland.records.summary import read_summary, write_summary
from statland.settings import SettingError
from statland.training import screen
from statland.training.run import Prepared, prepare
from statland.training.stopping import Interrupted, leave_worker

log = logging.getLogger(__name__)

# How a process ends that SIGINT or SIGTERM has asked to: by itself, or before it could.
INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)


def main(config: DictConfig) -> None:
    """Run one Hydra job, by itself or of a sweep.

    By itself, a setting that cannot be ends it with one line and exit status 2. In a sweep a job
    that fails says so in its summary and its log, and the others go on.
    """
    steady_streams()  # of a launcher's worker too
    hydra = HydraConfig.get()
    if not OmegaConf.is_missing(hydra.job, "num"):
        job_of_sweep(config, Path(hydra.sweep.dir), hydra.job.name)
        return
    if params := hydra.sweeper.get("params"):
        print(f"note: this is one run; with -m all are made, a sweep over {', '.join(params)}")
    folder = Path(hydra.runtime.output_dir)
    with refusals_in_one_line():
        try:
            settings = checked(plain(config), overrides_of_job())
            if settings["resume"] is not None:
                resume(settings, choices_of_job(), overrides_of_job())
                return
            prepared = prepare(settings, choices_of_job())
        finally:
            remove_new()  # the folder, as long as nothing is in it
        execute_logged(prepared, folder)


def job_of_sweep(config: DictConfig, sweep: Path, name: str) -> None:
    """Run one job of a sweep, unless its run has ended before; print a line on how it went.

    A job whose process dies has failed; the others go on.
    """

    def work() -> None:
        train_job(config, sweep, name)

    try:
        if not can_fork(str(HydraConfig.get().runtime.choices["hydra/launcher"])):
            work()
            return
        if config.get("probe_every") is not None:
            importlib.import_module("statland.gradients.figures")  # once, not in every child
        runs_in(sweep)  # likewise: a child has read what its parent has
        status = run_in_child(work)
        if status in INTERRUPTED:
            raise Interrupted(abs(status) if status > 0 else 128 - status)
    except Interrupted as interrupted:
        leave_worker(interrupted)
        raise
    if status < 0:
        error = SettingError(f"its process was ended by {signal.Signals(-status).name}")
        folder = run_of(sweep, as_far_as_resolved(config)) or _for_failure(sweep, config, name)
        print_result(record_failure(error, config, folder), folder)
    elif status > 0:
        sys.exit(status)


def train_job(config: DictConfig, sweep: Path, name: str) -> None:
    """Train one job of a sweep as far as that is left to do; print a line on how it went."""
    folder = None
    try:
        prepared = prepare(checked(plain(config), overrides_of_job()), choices_of_job())
        folder, note = place(sweep, prepared.identity, name)
        if note:
            print(f"note: {note}, in {folder.name}", flush=True)
        summary = run_if_not_ended(prepared, folder)
    except FolderTaken:
        print(f"{folder.name if folder else name}: another process is training it", flush=True)
        return
    except Exception as error:
        end_if_disk_is_full(error)  # the next job could not begin either
        folder = folder or _for_failure(sweep, config, name)
        summary = record_failure(error, config, folder)
    gc.collect()  # a run holds cycles; the next job begins without them
    print_result(summary, folder)


def print_result(summary: dict[str, Any], folder: Path) -> None:
    """Print a line on a job that has ended, and how far the sweep has come."""
    print(f"{folder.name}: {screen.result_line(summary)}{Progress.count()}", flush=True)


def run_if_not_ended(prepared: Prepared, folder: Path) -> dict[str, Any]:
    """The summary of a run of a sweep, trained as far as that is left to do."""
    with held(folder):
        earlier = read_summary(folder)
        if earlier is not None and earlier["status"] in ENDED:
            return earlier | {"status": f"{earlier['status']} before"}
        return execute_logged(prepared, folder, Console(quiet=True), resume=True)


def _for_failure(sweep: Path, config: DictConfig, name: str) -> Path:
    return without_run(sweep, as_far_as_resolved(config), name)


def record_failure(error: Exception, config: DictConfig, folder: Path) -> dict[str, Any]:
    """Say in a job's log and summary that it has failed, and why; return the summary."""
    if not isinstance(error, SettingError):  # which needs no traceback
        traceback.print_exc()
    with logging_to(folder):
        log.error("failed: %s", error, exc_info=error)
    reason = str(SettingError(str(error) or type(error).__name__))  # one line
    facts = {"choices": choices_of_job(), "config": as_far_as_resolved(config)}
    summary = facts | (read_summary(folder) or {}) | {"status": "failed", "error": reason}
    write_summary(folder, summary)
    return summary
