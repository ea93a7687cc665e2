"""Runs in numbers: each row's seeds summarised, and whether reach predicts what is solved."""

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from statland.data.base import EXACT
from statland.report.groups import Groups


def summarise(groups: Groups) -> pd.DataFrame:
    """One row per setting: means and standard deviations over the runs that count.

    Losses and skills are over the n that were completed with a finite loss. solved is over all that
    count, with its 95% interval by Clopper and Pearson; steps and sequences (steps times companies
    per step) are medians, inf where they are never. status counts every run.
    """
    rows = []
    for values, runs in groups.runs.groupby(groups.rows, sort=False, dropna=False):
        settings = dict(zip(groups.rows, values, strict=True))
        status = ", ".join(f"{n} {name}" for name, n in runs["status"].value_counts().items())
        rows.append(settings | _statistics(runs[runs["counts"]]) | {"status": status})
    return pd.DataFrame(rows)


def _statistics(counted: pd.DataFrame) -> dict[str, Any]:
    ended = counted[(counted["status"] == "completed") & np.isfinite(counted["validation"])]
    reaches = ("reach_before", "reach_after", "reach_state_before", "reach_state_after")
    return {
        "n": len(ended),
        "validation": ended["validation"].mean(),
        "validation_std": ended["validation"].std(),
        "skill": ended["skill"].mean(),
        "skill_std": ended["skill"].std(),
        **_solved(counted),
        "sequences_to_all_right": _sequences(counted[counted["accuracy_known"]], "all_right"),
        "gradient": _words(counted),
        **{column: _reach(counted, column) for column in reaches},
        "span": counted["span"].median(),
        "parameters": counted["parameters"].median(),
        "decay_before": counted["decay_before"].mean(),
        "decay_after": counted["decay_after"].mean(),
        "decay_theory": counted["theory_before"].mean(),
        "log10_dp_dw_before": counted["log10_dp_dw_before"].mean(),
        "log10_dp_dw_after": counted["log10_dp_dw_after"].mean(),
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
        "steps_to_solve": can_be["steps_to_solve"].fillna(math.inf).median(),
        "sequences_to_solve": _sequences(can_be, "solve"),
    }


def _sequences(runs: pd.DataFrame, to: str) -> float:
    """The median of steps times companies per step; inf stands for never."""
    companies = runs.get("data.batch_size", pd.Series(math.nan, runs.index))
    return float((runs[f"steps_to_{to}"].fillna(math.inf) * companies).median())


def _words(runs: pd.DataFrame) -> str:
    """What the gradient does, before training and after it."""
    both = [", ".join(sorted(set(runs[f"verdict_{when}"]) - {"-"})) for when in ("before", "after")]
    return both[0] if both[0] == both[1] else " -> ".join(both)


def _reach(runs: pd.DataFrame, column: str) -> str:
    """The median reach over seeds, with a + where it is not bounded."""
    reaches = runs[column].dropna()
    if reaches.empty:
        return "-"
    bounded = runs.loc[reaches.index, f"{column}_is_bounded"].astype(bool).all()
    return f"{reaches.median():g}{'' if bounded else '+'}"


def reach_predicts_solved(runs: pd.DataFrame) -> pd.DataFrame:
    """Counts of runs by contestant, and of all: reach before training against solved.

    Empty where no run knows its span.
    """
    known = with_known_span(runs)
    if known.empty:
        return pd.DataFrame()
    reaches, solved = known["reach_before"] >= known["span"], known["solved"].astype(bool)
    counts = pd.DataFrame({"reaches, solved": reaches & solved})
    counts["reaches, unsolved"] = reaches & ~solved
    counts["falls short, solved"] = ~reaches & solved
    counts["falls short, unsolved"] = ~reaches & ~solved
    table = counts.groupby(known["contestant"], sort=False).sum().astype(int)
    if len(table) > 1:
        table.loc["all runs"] = table.sum()
    return table.reset_index()


def with_known_span(runs: pd.DataFrame) -> pd.DataFrame:
    """The trained runs that count, of markets with a known span and no exact baseline."""
    known = runs[runs["counts"] & runs["span"].notna() & runs["reach_before"].notna()]
    return known[(known["best_baseline"] >= EXACT) & (known["steps"] > 0)]
