"""The jobs of a sweep: which are left to do, and the name and the folder of each job's run."""

import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock
from omegaconf import DictConfig
from rich.console import Console

from statland.command.compose import GROUPS, checked, choices_of_job, overrides_of_job
from statland.records.identity import Identity, read_identity, write_identity
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
    config: DictConfig
    settings: dict[str, Any]
    folder: Path  # of the sweep


class Sweep:
    """The jobs of a sweep, composed and looked up one by one, as their turn comes."""

    def __init__(self, jobs: Iterable[Job], count: int) -> None:
        """Take the `count` jobs, which may be composed only when they are iterated over."""
        self.jobs, self.count, self.done = jobs, count, 0
        self.folders: set[Path] = set()

    def batches(self, size: int | None) -> Iterator[list[Job]]:
        """Yield the jobs that are left to do, `size` at a time; None: all.

        Raises SettingError, before anything is written, where no job can begin.
        """
        left, began, begun = self._from_one_that_can_begin(), 0.0, set[Path]()
        while batch := list(islice(left, size)):
            for folder in sorted({job.folder for job in batch} - begun):
                folder.mkdir(parents=True, exist_ok=True)
                print(printable(f"{self.count} jobs, in {folder}"), flush=True)
                begun.add(folder)
            began = began or time.time()  # looking up what was done before is no training
            os.environ[PROGRESS] = f"{self.count - self.done} {began}"
            yield batch

    def _from_one_that_can_begin(self) -> Iterator[Job]:
        """Yield the jobs that are left to do, once one has been found that can begin."""
        torch.set_num_threads(1)  # jobs are forked from this process, which must have no threads
        left = filter(self._is_left, self.jobs)
        waiting: list[Job] = []
        first: SettingError | None = None
        for job in left:
            waiting.append(job)
            try:
                if job.settings.get("resume") is not None:
                    raise SettingError("resume is set; allowed: without -m")
                build(checked(job.settings), torch.device("cpu"))
            except SettingError as error:
                first = first or error
                continue
            stop_workers_on_signal()
            yield from chain(waiting, left)
            return
        if waiting or not self.count:
            raise SettingError(f"no job of the sweep can begin: {first or 'it has none'}")

    def _is_left(self, job: Job) -> bool:
        """Whether a job's run has not ended before, as far as its settings tell."""
        self.folders.add(job.folder)
        runs = runs_in(job.folder)
        same = same_settings(identity_of(job.settings), runs)
        ended = [runs[folder] for folder in same if has_ended(folder)]
        self.done += bool(ended)
        return not ended or bool(ended[0].files)  # the job itself compares the price files

    def finish(self) -> None:
        """Print a table of all runs in the sweep's folders; exit with status 1 where one failed."""
        from statland.report.tables import runs_table  # importing scipy.stats takes a second

        folders = sorted(self.folders)
        runs = load(*folders)
        console = Console(markup=False, width=None if sys.stdout.isatty() else 100)
        console.print(runs_table(runs, console.width))
        for line in runs.attrs["skipped"]:
            print(f"skipped {line}")
        for folder in folders:
            line = f"{self.count} jobs, {self.done} of them done before, in {folder}"
            print(printable(line), flush=True)
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
        same = same_settings(identity, runs)
        for folder in sorted(same, key=lambda folder: not has_ended(folder)):
            other = runs[folder]
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


def same_settings(identity: Identity, runs: Mapping[Path, Identity]) -> list[Path]:
    """The folders of the runs of these settings, whatever their price files."""
    return [
        folder
        for folder, other in runs.items()
        if not other.difference(identity._replace(files=other.files))
    ]


def runs_in(sweep: Path) -> dict[Path, Identity]:
    """The runs in a sweep's folder; damaged ones, and those with links, are left out."""
    found = {}
    for path in sorted(sweep.glob("*/run.json")):
        with suppress(SettingError, OSError):
            if (identity := _read_once(path.parent, path.stat().st_mtime_ns)) is not None:
                found[path.parent] = identity
    return found


@cache
def _read_once(folder: Path, changed: int) -> Identity | None:
    """Return whose run a folder holds, unless that is known as of when run.json last changed."""
    return read_identity(folder)


def has_ended(folder: Path) -> bool:
    """Whether a run needs no more training."""
    return (read_summary(folder) or {}).get("status") in ("completed", "diverged")
