"""One Hydra job: a run by itself, or one of a sweep."""

import logging
import shutil
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from statland import screen
from statland.recorder import discard, read_summary, strict, write_summary
from statland.run import MACHINE, run
from statland.settings import SettingError, flatten

log = logging.getLogger(__name__)

GROUPS = ("model", "model/init", "data", "optimizer")


def main(config: DictConfig) -> None:
    """Run one Hydra job, by itself or of a sweep.

    By itself, a setting that cannot be ends it with one line and exit status 2. In a sweep a job
    that fails says so in its summary and its log, and the others go on.
    """
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    choices = {group: job.runtime.choices[group] for group in GROUPS}
    if not OmegaConf.is_missing(job.job, "num"):
        run_of_sweep(config, folder, choices)
        return
    try:
        run(config, folder, choices)
    except SettingError as error:
        print(f"error: {error}", file=sys.stderr)
        _forget(folder)
        sys.exit(2)


def run_of_sweep(config: DictConfig, folder: Path, choices: Mapping[str, str]) -> None:
    """Run one job of a sweep, unless it has been completed before; print a line on how it went."""
    earlier = read_summary(folder)
    if earlier is not None and earlier["status"] in ("completed", "diverged"):
        different = _different(earlier["config"], OmegaConf.to_container(config, resolve=True))
        if different:
            raise SettingError(
                f"{folder} holds a run with another {different}; allowed: the same settings, or "
                f"another sweep=NAME"
            )
        print(f"{folder.name}: {earlier['status']} before")
        return
    discard(folder)
    try:
        summary = run(config, folder, choices, Console(quiet=True))
    except Exception as error:
        if not isinstance(error, SettingError):  # which needs no traceback
            traceback.print_exc()
        log.exception("failed: %s", error)
        summary = (read_summary(folder) or {}) | {"status": "failed", "error": str(error)}
        settings = OmegaConf.to_container(config, resolve=False)
        write_summary(folder, {"choices": dict(choices), "config": settings} | summary)
    print(f"{folder.name}: {screen.outcome(summary)}", flush=True)


def _different(earlier: Mapping[str, Any], now: Any) -> str | None:
    """The first setting of an earlier run that is another now, as key and values."""
    ours, theirs = flatten(strict(now)), flatten(earlier)
    for key in sorted(ours.keys() | theirs.keys()):
        if key not in MACHINE and ours.get(key) != theirs.get(key):
            return f"{key}: {theirs.get(key)}, not {ours.get(key)}"
    return None


def _forget(folder: Path) -> None:
    """Remove the folder that Hydra made for a run that never began, and its empty parents."""
    if (folder / "metrics.csv").exists():
        return  # an earlier run's
    logging.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
    for parent in (folder.parent, folder.parent.parent):
        if parent.is_dir() and parent != Path.cwd() and not any(parent.iterdir()):
            parent.rmdir()
