"""Runs in numbers: each row's seeds summarised, and whether reach predicts what is solved."""

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from statland.data.base import EXACT
from statland.report.groups import Groups


def summarise(groups: Groups) -> pd.DataFrame:
    """One row a setting: means and standard deviations over the runs that count.

    n is how many of them were completed with a finite loss; losses and skills are over these.
    solved is over all that count, with its 95% interval by Clopper and Pearson; steps_to_solve is
    the median over the same, where inf stands for never, and sequences_to_solve that of the steps
    times the companies per step. sequences_to_all_right is likewise of the first of two validations
    running that had an accuracy of 1. Every run counts in status.
    """
    rows = []
    for values, runs in groups.runs.groupby(groups.rows, sort=False, dropna=False):
        settings = dict(zip(groups.rows, values, strict=True))
        statuses = runs["status"].value_counts()
        status = ", ".join(f"{count} {name}" for name, count in statuses.items())
        rows.append(settings | _statistics(runs[runs["counts"]]) | {"status": status})
    return pd.DataFrame(rows)


def _statistics(counted: pd.DataFrame) -> dict[str, Any]:
    losses = counted["validation"]
    ended = counted[(counted["status"] == "completed") & np.isfinite(losses)]
    return {
        "n": len(ended),
        "validation": ended["validation"].mean(),
        "validation_std": ended["validation"].std(),
        "skill": ended["skill"].mean(),
        "skill_std": ended["skill"].std(),
        **_solved(counted),
        "sequences_to_all_right": _sequences(counted[counted["accuracy_known"]], "all_right"),
        "gradient": _words(counted),
        "reach_before": _reach(counted, "reach_before"),
        "reach_after": _reach(counted, "reach_after"),
        "reach_state_before": _reach(counted, "reach_state_before"),
        "reach_state_after": _reach(counted, "reach_state_after"),
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
    low, high = proportion_interval(int(can_be["solved"].sum()), len(can_be))
    return {
        "solved": f"{can_be['solved'].sum()} of {len(can_be)}",
        "solved_low": low,
        "solved_high": high,
        "steps_to_solve": can_be["steps_to_solve"].fillna(math.inf).median(),
        "sequences_to_solve": _sequences(can_be, "solve"),
    }


def _sequences(runs: pd.DataFrame, to: str) -> float:
    """The median of steps times companies per step; inf stands for never."""
    companies = runs.get("data.batch_size", pd.Series(math.nan, runs.index))
    return float((runs[f"steps_to_{to}"].fillna(math.inf) * companies).median())


def proportion_interval(count: int, of: int) -> tuple[float, float]:
    """The exact 95% interval of a proportion (Clopper and Pearson 1934)."""
    interval = stats.binomtest(count, of).proportion_ci(confidence_level=0.95, method="exact")
    return float(interval.low), float(interval.high)


def reach_predicts_solved(runs: pd.DataFrame) -> pd.DataFrame:
    """Counts of runs: reach before training against solved; empty where no run knows its span."""
    known = with_known_span(runs)
    if known.empty:
        return pd.DataFrame()
    reaches = known["reach_before"] >= known["span"]
    counts = pd.crosstab(
        np.where(reaches, "gradient reaches the answer", "gradient falls short"),
        np.where(known["solved"], "solved", "not solved"),
    )
    counts = counts.reindex(
        index=["gradient reaches the answer", "gradient falls short"],
        columns=["solved", "not solved"],
        fill_value=0,
    )
    return counts.rename_axis(index=None, columns=None)


def predictions_by_contestant(runs: pd.DataFrame) -> pd.DataFrame:
    """The same, a row a contestant: where the reach was right, and the two ways to be wrong."""
    known = with_known_span(runs)
    reaches, solved = known["reach_before"] >= known["span"], known["solved"].astype(bool)
    counts = pd.DataFrame(
        {
            "contestant": known["contestant"],
            "runs": 1,
            "as predicted": reaches == solved,
            "reaches, not solved": reaches & ~solved,
            "falls short, solved": ~reaches & solved,
        }
    )
    return counts.groupby("contestant", sort=False).sum().astype(int).reset_index()


def with_known_span(runs: pd.DataFrame) -> pd.DataFrame:
    """The trained runs that count, of markets with a known span and no exact baseline."""
    known = runs[runs["counts"] & runs["span"].notna() & runs["reach_before"].notna()]
    return known[(known["best_baseline"] >= EXACT) & (known["steps"] > 0)]


def _words(runs: pd.DataFrame) -> str:
    """What the gradient does, before training and after it, in the words of its verdict."""
    both = [", ".join(sorted(set(runs[f"verdict_{when}"]) - {"-"})) for when in ("before", "after")]
    return both[0] if both[0] == both[1] else " -> ".join(both)


def _reach(runs: pd.DataFrame, column: str) -> str:
    """The median reach over seeds, with a + where it is not bounded."""
    reaches = runs[column].dropna()
    if reaches.empty:
        return "-"
    bounded = runs.loc[reaches.index, f"{column}_is_bounded"].astype(bool).all()
    return f"{reaches.median():g}{'' if bounded else '+'}"
