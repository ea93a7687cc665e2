"""What two sweeps in one folder owe each other: that both end when all runs have."""

import contextlib
import time
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from statland.command.compose import plain
from statland.command.logged import execute_logged
from statland.command.sweep import ENDED, runs_in
from statland.records.identity import Identity
from statland.records.lock import FolderTaken, held
from statland.records.summary import read_summary
from statland.settings import SettingError
from statland.training.config import check
from statland.training.run import prepare

POLL_SECONDS = 0.2


def finish_others(sweep: Path, config: DictConfig) -> None:
    """Wait for the runs that other processes are training; go on with one whose process has died.

    A run that has failed, or was stopped while no one had it, is left as it is.
    """
    machine = plain(config)
    for folder, identity in runs_in(sweep).items():
        if _is_taken(folder):
            print(f"waiting for {folder.name}, which another process is training", flush=True)
            while _is_taken(folder):
                time.sleep(POLL_SECONDS)
            if (read_summary(folder) or {}).get("status") not in (*ENDED, "failed"):
                _go_on(folder, identity, machine)


def _is_taken(folder: Path) -> bool:
    try:
        with held(folder):
            return False
    except FolderTaken:
        return True


def _go_on(folder: Path, identity: Identity, machine: dict[str, object]) -> None:
    """Train what a process has left behind. One that cannot be, its own sweep lists as failed."""
    with contextlib.suppress(FolderTaken, SettingError):
        prepared = prepare(check(machine | identity.settings), identity.choices)
        execute_logged(prepared, folder, Console(quiet=True), resume=True)
