"""Runs in numbers: the seeds of each row of the table, summarised."""

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from statland.report.groups import Groups

MOMENTS = ("before", "after")  # training


def summarise(groups: Groups) -> pd.DataFrame:
    """One row per setting: means and standard deviations over the runs that count.

    Losses and skills are means over the n that were completed with a finite loss. solved is over
    all that count, with its 95% interval by Clopper and Pearson; steps and sequences (steps times
    companies per step), inf where they are never, and what is measured of the gradient are medians.
    status counts every run.
    """
    rows = []
    for values, runs in groups.runs.groupby(groups.rows, sort=False, dropna=False):
        settings = dict(zip(groups.rows, values, strict=True))
        status = ", ".join(f"{n} {name}" for name, n in runs["status"].value_counts().items())
        rows.append(settings | _statistics(runs[runs["counts"]]) | {"status": status})
    return pd.DataFrame(rows)


def _statistics(counted: pd.DataFrame) -> dict[str, Any]:
    ended = counted[(counted["status"] == "completed") & np.isfinite(counted["validation"])]
    measured = ("share", "importance", "reach", "decay", "log10_dp_dw")
    return {
        **_solved(counted),
        "validation": ended["validation"].mean(),
        "validation_std": ended["validation"].std(),
        "n": len(ended),
        **{f"{n}_{when}": counted[f"{n}_{when}"].median() for n in measured for when in MOMENTS},
        "gradient": _words(counted),
        **{name: ended[name].mean() for name in ("accuracy", "longer_loss", "longer_accuracy")},
        "skill": ended["skill"].mean(),
        "skill_std": ended["skill"].std(),
        "sequences_to_all_right": _sequences(counted[counted["accuracy_known"]], "all_right"),
        "decay_theory": counted["theory_before"].median(),
        "span": counted["span"].median(),
        "parameters": counted["parameters"].median(),
        "ms_per_step": (1000 / counted["steps_per_second"]).mean(),
    }


def _solved(counted: pd.DataFrame) -> dict[str, Any]:
    """k of n with its interval, and when; nothing where no loss would count as solved."""
    can_be = counted[counted["solved_below"].notna()]
    if can_be.empty:
        return {"solved": "-", "solved_low": math.nan, "solved_high": math.nan}
    count = int(can_be["solved"].sum())
    interval = stats.binomtest(count, len(can_be)).proportion_ci(method="exact")
    return {
        "solved": f"{count} of {len(can_be)}",
        "solved_low": interval.low,
        "solved_high": interval.high,
        "steps_to_solve": median_steps(can_be),
        "sequences_to_solve": _sequences(can_be, "solve"),
    }


def median_steps(runs: pd.DataFrame) -> float:
    """The median of the steps to solve; a run that has not solved counts as never, inf."""
    return float(runs["steps_to_solve"].fillna(math.inf).median())


def _sequences(runs: pd.DataFrame, to: str) -> float:
    """The median of steps times companies per step; inf stands for never."""
    companies = runs.get("data.batch_size", pd.Series(math.nan, runs.index))
    return float((runs[f"steps_to_{to}"].fillna(math.inf) * companies).median())


def _words(runs: pd.DataFrame) -> str:
    """What the gradient does, before training and after it."""
    both = [", ".join(sorted(set(runs[f"verdict_{when}"]) - {"-"})) for when in MOMENTS]
    return both[0] if both[0] == both[1] else " -> ".join(filter(None, both))
