"""One Hydra job: a run by itself, or one of a sweep."""

import contextlib
import gc
import logging
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from yaml import YAMLError

from statland.command.folders import remove_new
from statland.command.mistakes import FULL_ERROR, end_if_disk_is_full
from statland.records.lock import FolderTaken, release
from statland.records.recorder import read_summary, strict, write_summary
from statland.settings import SettingError, flatten
from statland.training import screen
from statland.training.run import MACHINE, run
from statland.training.stopping import Interrupted, leave_worker

log = logging.getLogger(__name__)

GROUPS = ("model", "model/init", "data", "optimizer")


def main(config: DictConfig) -> None:
    """Run one Hydra job, by itself or of a sweep.

    By itself, a setting that cannot be ends it with one line and exit status 2. In a sweep a job
    that fails says so in its summary and its log, and the others go on.
    """
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    choices = {group: str(job.runtime.choices.get(group)) for group in (*GROUPS, "experiment")}
    experiment = choices.pop("experiment")
    if not OmegaConf.is_missing(job.job, "num"):
        run_of_sweep(config, folder, choices)
        return
    if params := job.sweeper.get("params"):
        print(f"note: this is one run; with -m all are made, a sweep over {', '.join(params)}")
    try:
        if config.get("resume") is None:
            run(config, folder, choices)
        else:
            _forget(folder)
            resume(config, choices | {"experiment": experiment}, list(job.overrides.task))
    except SettingError as error:
        if FULL_ERROR:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        _forget(folder)
        sys.exit(2)
    except OSError as error:
        end_if_disk_is_full(error)
        log.exception("failed")
        if FULL_ERROR:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        log.exception("not enough memory")
        reason = str(SettingError(str(error)))  # one line
        print(
            f"error: not enough memory: {reason}; allowed: smaller data.batch_size, data.max_days, "
            f"model.hidden_size or model.num_layers",
            file=sys.stderr,
        )
        sys.exit(1)


def resume(config: DictConfig, choices: Mapping[str, str], overrides: list[str]) -> None:
    """Go on with the run in the folder config.resume, by its own config; steps= may extend it."""
    folder = Path(str(config.resume))
    try:
        own = OmegaConf.load(folder / ".hydra/config.yaml")
        own_choices = dict(OmegaConf.load(folder / ".hydra/hydra.yaml").hydra.runtime.choices)
        complete = isinstance(own, DictConfig) and own_choices.keys() >= set(GROUPS)
    except OSError as error:
        raise SettingError(f"resume is {folder}, which is no run folder") from error
    except (YAMLError, OmegaConfBaseException, ValueError, TypeError, AttributeError) as error:
        raise SettingError(f"{folder}/.hydra is damaged: {error}") from error
    if not complete:
        raise SettingError(f"{folder}/.hydra is damaged: it lacks settings")
    for override in overrides:
        key = override.split("=")[0].lstrip("+~")
        theirs, ours = own_choices, choices
        if key not in choices:
            theirs, ours = ({key: OmegaConf.select(c, key)} for c in (own, config))
        if key not in ("resume", "steps") and ours.get(key) != theirs.get(key):
            raise SettingError(
                f"{key} is {ours.get(key)}, and in the run to resume {theirs.get(key)}; "
                f"allowed: its own settings, but for steps"
            )
        if key == "steps":
            own.steps = config.steps
    own.resume = None
    handler = logging.FileHandler(folder / "train.log")
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"))
    logging.getLogger().handlers = [handler]
    run(own, folder, {group: own_choices[group] for group in GROUPS}, resume=True)


def run_of_sweep(config: DictConfig, folder: Path, choices: Mapping[str, str]) -> None:
    """Run one job of a sweep, unless it has been completed before; print a line on how it went."""
    earlier = read_summary(folder)
    if earlier is not None and earlier["status"] in ("completed", "diverged"):
        different = _different(earlier["config"], OmegaConf.to_container(config, resolve=True))
        if different:
            print(
                f"error: {folder} holds a run with another {different}; allowed: the same "
                f"settings, or another sweep=NAME",
                file=sys.stderr,
            )
            sys.exit(2)
        print(f"{folder.name}: {earlier['status']} before")
        return
    try:
        summary = run(config, folder, choices, Console(quiet=True), resume=True)
    except Interrupted as interrupted:
        leave_worker(interrupted)
        raise
    except FolderTaken:
        print(f"{folder.name}: another process is training it", flush=True)
        return
    except Exception as error:
        end_if_disk_is_full(error)  # the next job could not begin either
        if not isinstance(error, SettingError):  # which needs no traceback
            traceback.print_exc()
        log.exception("failed: %s", error)
        summary = (read_summary(folder) or {}) | {"status": "failed", "error": str(error)}
        settings = OmegaConf.to_container(config, resolve=False)
        write_summary(folder, {"choices": dict(choices), "config": settings} | summary)
    gc.collect()  # a run holds cycles; the next job begins without them
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
    for handler in logging.getLogger().handlers:
        handler.close()
    logging.getLogger().handlers = []
    # Only what Hydra wrote a moment ago, file by file: the folder may have been there before.
    for name in ("config.yaml", "hydra.yaml", "overrides.yaml"):
        (folder / ".hydra" / name).unlink(missing_ok=True)
    (folder / "train.log").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # where something else is in it
        (folder / ".hydra").rmdir()
    release(folder)
    remove_new()
