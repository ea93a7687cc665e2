"""Which runs belong together: the settings that differ, the runs that count, the markets."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from statland.settings import SettingError, choice

# The groups of configs/; their choices are named without the key.
CHOICES = ("model", "data", "optimizer", "model/init")

# In this order settings are looked at for what distinguishes runs.
FIRST = (*CHOICES, "data.max_days")


class Groups(NamedTuple):
    """The runs of a comparison, and what they are grouped by.

    The runs have three more columns: counts (whether a run is one of those that statistics are
    over), market and contestant (the labels that it is compared under).
    """

    runs: pd.DataFrame
    rows: list[str]  # the settings that a row of the table stands for
    pooled: list[str]  # settings that differ within a row


def meeting(runs: pd.DataFrame, where: Sequence[str]) -> pd.DataFrame:
    """Return the runs that meet conditions KEY=VALUE.

    Raises SettingError for a key or a value that no run has.
    """
    allowed = settings_of(runs)
    for condition in where:
        key, equals, value = condition.partition("=")
        if not equals:
            raise SettingError(f"--where is {condition!r}; allowed: KEY=VALUE")
        choice("--where", key, [*allowed, "seed"])
        values = runs[key].map(_text)
        choice(key, value, dict.fromkeys(values))
        runs = runs[values == value]
    return runs


def group(runs: pd.DataFrame, by: Sequence[str] = ()) -> Groups:
    """Group the runs by the settings `by`, or by the fewest that distinguish them.

    Raises SettingError for a key that no run has.
    """
    for key in by:
        choice("--by", key, settings_of(runs))
    differing = varying(runs)
    rows = list(dict.fromkeys(by)) or differing or ["model"]
    markets = [key for key in dict.fromkeys([*differing, *rows]) if key.startswith("data")]
    others = [key for key in rows if not key.startswith("data")]
    runs = runs.reset_index(drop=True)
    runs = runs.assign(
        counts=_counts(runs, differing),
        market=[label(row, "all runs") for row in runs[markets].to_dict("records")],
        contestant=[label(row, "all") for row in runs[others].to_dict("records")],
    )
    return Groups(runs, rows, [key for key in differing if key not in rows])


def settings_of(runs: pd.DataFrame) -> list[str]:
    """The columns that are settings of an experiment, those of FIRST first."""
    groups = ("model", "data", "optimizer")
    others = ("model/init", "steps_asked", "clip_norm", "dtype")
    names = [n for n in map(str, runs) if n.split(".")[0] in groups or n in others]
    return sorted(names, key=lambda n: (FIRST.index(n) if n in FIRST else len(FIRST), n))


def varying(runs: pd.DataFrame) -> list[str]:
    """The fewest settings that distinguish the runs; those that follow from others are left out.

    Those of the market come first: no two markets are taken for one.
    """
    settings = settings_of(runs)
    chosen: list[str] = []
    groups = 1
    for column in sorted(settings, key=lambda key: not key.startswith("data")):
        count = len(runs[[*chosen, column]].astype(str).drop_duplicates())
        if count > groups or (column == "model" and runs[column].nunique() > 1):
            chosen, groups = [*chosen, column], count
    return sorted(chosen, key=settings.index)


def constants(runs: pd.DataFrame) -> dict[str, Any]:
    """The settings in which the runs do not differ."""
    return {
        column: runs[column].iloc[0]
        for column in settings_of(runs)
        if runs[column].notna().all() and runs[column].astype(str).nunique() == 1
    }


def left_out(runs: pd.DataFrame) -> str:
    """How many runs do not count, and why: 2 repeats, 1 unfinished; empty where all count."""
    others = runs[~runs["counts"]]
    reasons = others["status"].where(~others["status"].isin(["completed", "diverged"]), "repeats")
    return ", ".join(f"{count} {reason}" for reason, count in reasons.value_counts().items())


def label(settings: Mapping[Any, Any], default: str) -> str:
    """model=lstm, data.max_days=50 as lstm max_days=50; a setting without a value is left out."""
    parts = [
        _text(value) if key in CHOICES else f"{key.split('.')[-1]}={_text(value)}"
        for key, value in settings.items()
        if not pd.isna(value)
    ]
    return " ".join(parts) or ", ".join(f"no {key}" for key in settings) or default


def _text(value: Any) -> str:
    if pd.isna(value):
        return "null"
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _counts(runs: pd.DataFrame, differing: Sequence[str]) -> "pd.Series[bool]":
    """Whether a run ended, and is the one that counts of its settings and seed.

    Of repeats that is the newest that was completed, or else the newest that diverged.
    """
    ended = runs[runs["status"].isin(["completed", "diverged"])]
    ended = ended.assign(completed=ended["status"] == "completed")
    ended = ended.sort_values(["completed", "ended"], kind="stable")
    same = ended[[*differing, "seed"]].astype(str).duplicated(keep="last")
    return pd.Series(runs.index.isin(ended.index[~same]), runs.index)
