"""The jobs of a sweep: which are left to do, and the name and the folder of each job's run."""

import os
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock
from rich.console import Console

from statland.command.compose import GROUPS, checked, choices_of_job, overrides_of_job
from statland.records.checkpoint import identity_in
from statland.records.identity import Identity, write_identity
from statland.records.summary import finite_json, read_summary
from statland.report import load
from statland.settings import SettingError, printable
from statland.training.build import build
from statland.training.config import MACHINE, without_machine
from statland.training.screen import print_where, quoted_path, result_line
from statland.training.stopping import stop_workers_on_signal

UNNAMED = MACHINE | {"model", "experiment"}  # a name begins with the model in any case
UNSAFE = re.compile(r"[^A-Za-z0-9._+=-]+")  # not allowed in folder names on every system
PROGRESS = "STATLAND_PROGRESS"  # environment variable: number of jobs, and when they began


class Job(NamedTuple):
    """A job of a sweep, composed."""

    overrides: list[str]
    settings: dict[str, Any]
    folder: Path  # of the sweep


def begin(jobs: Sequence[Job]) -> list[list[str]]:
    """Print how many jobs a sweep has, and return the overrides of those that are left to do.

    Raises SettingError, before anything is written, where no job can begin.
    """
    folders = sorted({job.folder for job in jobs})
    ended = {f: [other for run, other in runs_in(f).items() if has_ended(run)] for f in folders}
    left, done = [], 0
    for job in jobs:
        run = identity_of(job.settings)
        same = [o for o in ended[job.folder] if not o.difference(run._replace(files=o.files))]
        done += bool(same)
        if not same or same[0].files:  # the job itself compares the price files
            left.append(job)
    if left or not jobs:
        _check_that_one_can_begin(left)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        line = f"{len(jobs)} jobs, {done} of them done before, in {folder}"
        print(printable(line), flush=True)
    os.environ[PROGRESS] = f"{len(left)} {time.time()}"
    stop_workers_on_signal()
    return [job.overrides for job in left]


def _check_that_one_can_begin(jobs: Iterable[Job]) -> None:
    """Raise SettingError, with the first reason, where no job can be built."""
    torch.set_num_threads(1)  # jobs are forked from this process, which then must have no threads
    first: SettingError | None = None
    for job in jobs:
        try:
            if job.settings.get("resume") is not None:
                raise SettingError("resume is set; allowed: without -m")
            build(checked(job.settings), torch.device("cpu"))
            return
        except SettingError as error:
            first = first or error
    raise SettingError(f"no job of the sweep can begin: {first or 'it has none'}")


def finish(jobs: Iterable[Job]) -> None:
    """Print a table of all runs in a sweep's folder; exit with status 1 where one has failed."""
    from statland.report.tables import runs_table  # importing scipy.stats takes a second

    folders = sorted({job.folder for job in jobs})
    runs, console = (
        load(*folders),
        Console(markup=False, width=None if sys.stdout.isatty() else 100),
    )
    console.print(runs_table(runs))
    for line in runs.attrs["skipped"]:
        print(f"skipped {line}")
    for folder in folders:
        print(f"compare them: python scripts/compare.py {quoted_path(folder)}")
        print_where(console, folder)
    if (runs["status"] == "failed").any():
        sys.exit(1)


def print_result(folder: Path, summary: Mapping[str, Any]) -> None:
    """Print how a job went, how many have ended, and about how long the others will take."""
    jobs, began = map(float, os.environ.get(PROGRESS, "0 0").split())
    ended = sum(p.stat().st_mtime >= began for p in folder.parent.glob("*/summary.json"))
    about = ""
    if 0 < ended <= jobs:  # else the launcher passes no environment, or another sweep helps
        left = (time.time() - began) / ended * (jobs - ended)
        text = f"{left:.0f} s" if left < 100 else f"{left / 60:.0f} min"
        about = f" ({ended:.0f} of {jobs:.0f}{f', about {text} to go' if ended < jobs else ''})"
    print(printable(f"{folder.name}: {result_line(summary)}{about}"), flush=True)


def identity_of(settings: Mapping[str, Any]) -> Identity:
    """The identity of a run of these settings, as long as its price files have not been read."""
    return Identity(finite_json(without_machine(settings)), {}, choices_of_job())


def run_name(model: str, overrides: Iterable[str]) -> str:
    """Name a run for its model and its overrides, sorted by key: lstm-recall-max_days=50-seed=1.

    A choice of a config group goes by its name alone, another key by its last part. Settings of the
    machine are left out.
    """
    texts = {}
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key not in UNNAMED:
            short = "" if key in GROUPS else key.split(".")[-1] + "="
            texts[key] = short + value.strip("'\"")
    name = "-".join([model, *(texts[key] for key in sorted(texts))])
    return UNSAFE.sub("_", name)[:150]  # most file systems take 255 characters


def place(sweep: Path, identity: Identity) -> Path:
    """Return the folder of a run in a sweep's folder: the one it has, or a new one.

    A suffix is added to a name that another run has. Two processes that ask at once get the same
    answer. A run that failed before it read its price files is found by its settings alone.
    """
    name = run_name(identity.choices["model"], overrides_of_job())
    with FileLock(sweep / ".lock"):
        runs = runs_in(sweep)
        for folder, other in sorted(runs.items(), key=lambda run: not has_ended(run[0])):
            is_unread = not (other.files and identity.files) and not has_ended(folder)
            ours = identity._replace(files=other.files) if is_unread else identity
            if not other.difference(ours):
                if is_unread and identity.files:
                    write_identity(folder, identity)
                return folder
        folder, number = sweep / name, 1
        while folder.exists():
            number += 1
            folder = sweep / f"{name}-run{number}"
        folder.mkdir()
        write_identity(folder, identity)
    if (earlier := runs.get(sweep / name)) is not None:
        what = identity.difference(earlier)
        print(printable(f"note: {folder.name} is another run than {name}: {what}"), flush=True)
    return folder


def runs_in(sweep: Path) -> dict[Path, Identity]:
    """The runs in a sweep's folder; damaged ones, and those with links, are left out."""
    found = {}
    for path in sorted(sweep.glob("*/run.json")):
        with suppress(SettingError):
            if (identity := identity_in(path.parent)) is not None:
                found[path.parent] = identity
    return found


def has_ended(folder: Path) -> bool:
    """Whether a run needs no more training."""
    return (read_summary(folder) or {}).get("status") in ("completed", "diverged")
