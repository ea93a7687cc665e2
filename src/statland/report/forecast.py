"""Does the gradient before training forecast which runs solve their market?"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from statland.data.base import EXACT
from statland.gradients.share import LITTLE
from statland.gradients.words import USED

# What a forecast may go by: the larger, the sooner a run should solve. By column of runs.
QUANTITIES = {
    "share": "share_before",
    "share of weights": "weights_share_before",
    "reach": "reach_before",
    "first to last": "first_to_last_before",
    "log10 dp/dW": "log10_dp_dw_before",
}

RESAMPLES = 2000

# log10 of |dp/dW| from which on weights are called sensitive: an update of a hundredth of a
# weight's unit then moves a prediction by its own.
SENSITIVE = 2

REACHED = math.log10(LITTLE)  # the share from which on the answer is reached, in log10
NAMED = 6  # contestants

# The columns of outlook.csv, and those of runs that they are.
OUTLOOK = {
    "model": "model",
    "market": "data",
    "days": "data.max_days",
    "parameters": "parameters",
    "learning_rate": "optimizer.lr",
    "sequences": "sequences",
    "share": "share_before",
    "solved": "solved",
}


class Forecast(NamedTuple):
    """How well the gradient before training forecasts which runs solve."""

    sentence: str
    areas: pd.DataFrame  # by quantity: ROC area, 95% interval, best threshold, what it puts right
    counts: pd.DataFrame  # the word against solved, by contestant where it errs, and of all runs
    reasons: str  # why runs do not solve; empty where all do


def with_known_answer(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the trained runs that count, of markets with a known answer and no exact baseline."""
    known = runs[runs["counts"] & runs["share_before"].notna() & (runs["steps"] > 0)]
    return known[known["best_baseline"] >= EXACT]


def forecast(runs: pd.DataFrame) -> Forecast | None:
    """Return how the share, and what else may tell, ranks the runs; None where no answer is known.

    By the area under the ROC curve: the part of all pairs of a run that solves and one that does
    not in which the first has the larger value, ties counting half. Its interval is by bootstrap
    over contestants; resamples in which all runs solve, or none, are left out.
    """
    known = with_known_answer(runs)
    if known.empty:
        return None
    solved = known["solved"].to_numpy(bool)
    counts = _counts(known, solved)
    right = int(counts.iloc[-1][["holds, solved", "not, unsolved"]].sum())
    word = f"the word before training is right for {right} of {len(known)} runs"
    if solved.all() or not solved.any():
        which = "all" if solved.all() else "none"
        sentence = f"no forecast to judge: {which} of the runs solve; {word}"
        return Forecast(sentence, pd.DataFrame(), counts, why_unsolved(known))
    areas = pd.DataFrame(
        [
            {"quantity": name} | _judged(known[known[column].notna()], column)
            for name, column in QUANTITIES.items()
            if known["solved"][known[column].notna()].nunique() > 1
        ]
    )
    area, low, high = areas.iloc[0][["area", "low", "high"]]
    sentence = (
        f"the answer's share before training ranks a run that solves above one that does not in "
        f"{area:.0%} of pairs (95% interval {low:.0%} to {high:.0%}); {word}"
    )
    return Forecast(sentence, areas, counts, why_unsolved(known))


def why_unsolved(runs: pd.DataFrame) -> str:
    """Say, of the runs of a forecast that ended unsolved, which of three reasons the numbers give.

    The gradient does not reach the answer; or it does, and the weights are too sensitive; or it
    does, and the trained model makes nothing of what it sees. Empty where all solve.
    """
    open_ = runs[~runs["solved"] & (runs["status"] == "completed")]
    misses = open_["share_before"] < REACHED
    sensitive = ~misses & (open_["log10_dp_dw_before"] > SENSITIVE)
    used = ~misses & ~sensitive & (open_["importance_after"] >= USED)
    reasons = {
        "the gradient does not reach the answer": misses,
        "it does, and the weights are too sensitive (dp/dW above 10^2)": sensitive,
        "it does, and the answer is not used: more steps, or the model cannot compute it": (
            ~(misses | sensitive | used)
        ),
        "the answer is used, and not yet right": used,
    }
    parts = []
    for reason, those in reasons.items():
        names = list(dict.fromkeys(open_["contestant"][those]))
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            parts.append(f"{reason}: {those.sum()} ({', '.join(names[:NAMED])}{more})")
    return f"why {len(open_)} runs do not solve: {'; '.join(parts)}" if parts else ""


def roc_area(values: np.ndarray, solved: np.ndarray) -> float:
    """Return the area under the ROC curve of values (N,) against what they should tell (N,)."""
    positive = int(solved.sum())
    ranks = rankdata(values)[solved].sum() - positive * (positive + 1) / 2
    return float(ranks / (positive * (len(solved) - positive)))


def best_threshold(values: np.ndarray, solved: np.ndarray) -> float:
    """Return the smallest threshold at or above which to call a run solved is right most often.

    Thresholds lie midway between two values, so that they hold for values not seen.
    """
    distinct = np.unique(values)
    between = (distinct[1:] + distinct[:-1]) / 2
    between = np.where(np.isfinite(between), between, distinct[1:])
    candidates = np.array([distinct[0], *between, np.inf])
    right = ((values >= candidates[:, None]) == solved).sum(1)
    return float(candidates[right.argmax()])


def _judged(runs: pd.DataFrame, column: str) -> dict[str, float]:
    """The area, its interval, and what a threshold puts right, also on markets it has not seen."""
    values, solved = runs[column].to_numpy(float), runs["solved"].to_numpy(bool)
    threshold = best_threshold(values, solved)
    found = {"runs": len(runs), "area": roc_area(values, solved)}
    found |= dict(zip(("low", "high"), _interval(values, solved, runs), strict=True))
    found |= {"threshold": threshold, "right": float(((values >= threshold) == solved).mean())}
    markets = runs["market"].to_numpy()
    unseen = 0
    for market in np.unique(markets):
        here = markets == market
        threshold = best_threshold(values[~here], solved[~here]) if not here.all() else np.nan
        unseen += ((values[here] >= threshold) == solved[here]).sum()
    several = runs["market"].nunique() > 1
    return found | {"right, market left out": unseen / len(values) if several else np.nan}


def _interval(values: np.ndarray, solved: np.ndarray, runs: pd.DataFrame) -> tuple[float, float]:
    """The 95% interval of the area, by bootstrap over contestants on a market."""
    units = [np.array(i) for i in runs.groupby(["market", "contestant"]).indices.values()]
    rng, areas = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([units[i] for i in rng.integers(0, len(units), len(units))])
        if 0 < solved[drawn].sum() < len(drawn):
            areas.append(roc_area(values[drawn], solved[drawn]))
    low, high = np.quantile(areas, [0.025, 0.975]) if areas else (np.nan, np.nan)
    return float(low), float(high)


def _counts(runs: pd.DataFrame, solved: np.ndarray) -> pd.DataFrame:
    """The word's four counts, of the contestants where it errs and of all runs."""
    holds = (runs["verdict_before"] == "holds").to_numpy()
    counts = pd.DataFrame(
        {
            "holds, solved": holds & solved,
            "holds, unsolved": holds & ~solved,
            "not, solved": ~holds & solved,
            "not, unsolved": ~holds & ~solved,
        }
    )
    table = counts.groupby(runs["contestant"].to_numpy(), sort=False).sum().astype(int)
    errs = table[(table["holds, unsolved"] + table["not, solved"]) > 0]
    errs = pd.concat([errs, table.sum().to_frame("all runs").T])
    return errs.rename_axis("contestant").reset_index()


def write_outlook(path: Path, runs: pd.DataFrame) -> int:
    """Write outlook.csv, on which runs base what they say of their share; return its rows."""
    known = with_known_answer(runs)
    known = known.assign(sequences=known["steps"] * known.get("data.batch_size", np.nan))
    table = known.reindex(columns=list(OUTLOOK.values())).set_axis(list(OUTLOOK), axis=1)
    table["share"] = table["share"].round(2)
    table.sort_values(["market", "days", "model", "share"]).to_csv(path, index=False)
    return len(table)
