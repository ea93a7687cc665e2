"""The files of a run folder: written whole or not at all, read back, and cut back to a step."""

import csv
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import torch

from statland.gradients.share import Profile
from statland.settings import SettingError

METRICS, FLOW, EVENTS = "metrics.csv", "gradient_flow.csv", "events.out.tfevents.*"

# One for each field of a Profile.
FLOW_COLUMNS = ("log10_median", "log10_p10", "log10_p90", "companies", "exact_zeros")


def check_plain(folder: Path) -> None:
    """Raise SettingError where a run folder, which may be a stranger's, holds a link or a pipe.

    Through a link a file elsewhere would be changed; opening a pipe waits for ever.
    """
    for inside in (folder, folder / ".hydra"):
        for entry in os.scandir(inside) if inside.is_dir() else ():
            if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
                raise SettingError(f"{entry.path} is a link, a pipe or a device; allowed: a file")


def check_new(folder: Path) -> None:
    """Raise SettingError where a new run would add its records to those of an earlier one."""
    if (folder / METRICS).exists():
        raise SettingError(f"{folder} holds a run already; allowed: a new folder")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the block ends, complete and on disk."""
    aside = path.with_name(f"{path.name}.part")
    aside.unlink(missing_ok=True)
    with aside.open("xb") as file:  # x follows no link
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def read_flow(folder: Path) -> dict[int, dict[str, Profile]]:
    """Return the profiles in gradient_flow.csv by step and quantity.

    A last line that is still being written is left out. Raises SettingError for a damaged file.
    """
    found: dict[int, dict[str, Profile]] = {}
    with (folder / FLOW).open(encoding="utf-8") as file:
        rows = csv.reader(line for line in file if line.endswith("\n"))
        try:
            next(rows, None)
            for (step, quantity), lags in groupby(rows, key=lambda row: (int(row[0]), row[1])):
                values = [[float(value) for value in row[3:]] for row in lags]
                profile = Profile(*torch.tensor(values, dtype=torch.float64).T)
                found.setdefault(step, {})[quantity] = profile
        except (ValueError, IndexError, TypeError, csv.Error) as error:
            raise SettingError(f"{folder / FLOW} is damaged: {error}") from error
    return found


def cut_back(folder: Path, step: int) -> None:
    """Remove the rows that a run recorded at `step` and later from its CSV files.

    Rows are in the order of their steps. TensorBoard's events stay; the recorder marks them.
    """
    for path in (folder / METRICS, folder / FLOW):
        kept = 0
        with path.open("rb") as file:
            for line in file:
                is_row = kept > 0  # the first line is the header
                if not line.endswith(b"\n") or (is_row and int(line.split(b",")[0]) >= step):
                    break
                kept += len(line)
        os.truncate(path, kept)


def order_events(folder: Path) -> None:
    """Let TensorBoard's next file, named for the time, sort last though the clock went back."""
    paths = sorted(folder.glob(EVENTS))
    if paths and paths[-1].name >= f"events.out.tfevents.{int(time.time()):010}":
        for place, path in enumerate(paths):
            *start, _, rest = path.name.split(".", 4)
            path.rename(folder / ".".join([*start, f"{place:010}", rest]))


def discard(folder: Path) -> None:
    """Remove what an earlier try recorded in a run folder, but for its log."""
    for pattern in (METRICS, FLOW, EVENTS, "*.png", "summary.json"):
        for path in folder.glob(pattern):
            path.unlink()
