"""The files that a run appends to as it goes on: reading them, and cutting them back."""

import csv
import os
from collections.abc import Mapping
from pathlib import Path

import torch

from statland.gradients.reach import Profile
from statland.records import summary
from statland.settings import SettingError

METRICS, FLOW, EVENTS = "metrics.csv", "gradient_flow.csv", "events.out.tfevents.*"

# One for each field of a Profile.
FLOW_COLUMNS = ("log10_median", "log10_p10", "log10_p90", "companies", "exact_zeros")


def read_flow(folder: Path) -> dict[int, dict[str, Profile]]:
    """What gradient_flow.csv holds: profiles by step and quantity.

    Raises SettingError where it is damaged.
    """
    found: dict[int, dict[str, list[list[float]]]] = {}
    with (folder / FLOW).open(newline="", encoding="utf-8") as file:
        try:
            for step, quantity, _, *row in list(csv.reader(file))[1:]:
                lags = found.setdefault(int(step), {}).setdefault(quantity, [])
                lags.append([float(value) for value in row])
        except ValueError as error:
            raise SettingError(f"{folder / FLOW} is damaged: {error}") from error
    return {
        step: {
            quantity: Profile(*torch.tensor(lags, dtype=torch.float64).T)
            for quantity, lags in by_quantity.items()
        }
        for step, by_quantity in found.items()
    }


def check_records(folder: Path, sizes: Mapping[str, int]) -> None:
    """Raise SettingError where a run's files are not those that had these sizes once."""
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size < size:
            state = "shorter than" if path.is_file() else "gone since"
            raise SettingError(
                f"{path} is {state} the checkpoint says; allowed: a run folder as it was left"
            )


def cut_back(folder: Path, sizes: Mapping[str, int]) -> None:
    """Undo what was recorded after the files had these sizes, the summary too."""
    for path in [folder / METRICS, folder / FLOW, *folder.glob(EVENTS)]:
        if path.name in sizes:
            os.truncate(path, sizes[path.name])
        else:
            path.unlink(missing_ok=True)
    (folder / summary.NAME).unlink(missing_ok=True)


def discard(folder: Path) -> None:
    """Remove what an earlier try has recorded in a run folder, its log apart."""
    for pattern in (
        METRICS,
        FLOW,
        EVENTS,
        "profile.png",
        "heatmap.png",
        "summary.json*",
        "checkpoint*",
    ):
        for path in folder.glob(pattern):
            path.unlink()
