"""The verdict on each market: its losses, judged, and a sentence that says the outcome."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from statland.data.base import EXACT
from statland.report.verdicts import SEEDS, judge


class MarketVerdict(NamedTuple):
    """The verdict on one market, as a sentence and as rows of a table."""

    sentence: str
    tests: pd.DataFrame  # market, leader, against, lead, low, high, p, seeds, shown


def verdicts(runs: pd.DataFrame, pooled: Sequence[str] = ()) -> list[MarketVerdict]:
    """The verdict on each market that has two contestants or more.

    `runs` and `pooled` are those of groups.Groups: a seed's loss is the mean over pooled settings.
    """
    return [
        _verdict(str(market), group, pooled)
        for market, group in runs.groupby("market", sort=False)
        if group["contestant"].nunique() > 1
    ]


def _verdict(market: str, runs: pd.DataFrame, pooled: Sequence[str]) -> MarketVerdict:
    losses = _losses(runs, pooled)
    # A baseline is the market's, not the model's: any run on a seed gives it.
    baselines = runs.filter(regex="^baseline/").select_dtypes("number").groupby(runs["seed"])
    known = baselines.mean().reindex(losses.index).dropna(axis="columns")
    known.columns = known.columns.str.removeprefix("baseline/")
    baseline = "" if known.empty else str(known.mean().idxmin())
    at = known[baseline] if baseline else pd.Series(np.nan, losses.index)
    verdict = judge(losses.to_numpy(), at.to_numpy())
    names, diverged = np.array(losses.columns, dtype=str), verdict.diverged
    seeds = losses.notna().sum().to_numpy()
    tests = pd.DataFrame()
    if verdict.leader >= 0:
        leader = names[verdict.leader]
        row: dict[str, Any] = {"market": market, "leader": leader}
        row |= {"against": [*names, f"baseline {baseline}"], **verdict.tests._asdict()}
        tests = pd.DataFrame(row | {"shown": verdict.beaten})
        tests = tests[np.append(~verdict.left_out & (names != leader), True)]
        parts = [_claim(tests, baseline, float(at.mean()))]
    elif seeds.any() and diverged[seeds > 0].all():
        parts = ["no verdict: every contestant diverged"]
    else:
        parts = ["no verdict: three seeds are needed, and no two contestants share so many"]
    for name, count, of in zip(names, diverged, seeds, strict=True):
        seed = "seed" if of == 1 else "seeds"
        parts += [f"{name} diverged on {count} of {of} {seed} and cannot win"] if count else []
    if verdict.leader >= 0 and verdict.left_out.any():
        shared = f"fewer than three seeds shared with {names[verdict.leader]}"
        parts.append(f"left out, with {shared}: {', '.join(names[verdict.left_out])}")
    return MarketVerdict(f"{market}: {'; '.join(parts)}", tests)


def _losses(runs: pd.DataFrame, pooled: Sequence[str]) -> pd.DataFrame:
    """Losses (S, C) by seed and contestant: nan where no run ended, inf where one diverged."""
    counted = runs[runs["counts"]]
    loss = counted["validation"].where(counted["status"] == "completed").fillna(np.inf)
    units = [counted["seed"], *(counted[key].map(str) for key in pooled)]
    table = loss.groupby([counted["contestant"], *units]).mean().unstack("contestant")
    if pooled:  # over the values that all contestants with enough seeds have
        seeds = counted.groupby("contestant")["seed"].nunique()
        table = table[seeds.index[seeds >= SEEDS]].dropna().groupby("seed").mean()
    return table.reindex(columns=list(dict.fromkeys(runs["contestant"])))


def _claim(tests: pd.DataFrame, baseline: str, loss: float) -> str:
    """Who wins, or why nobody does, by the leader's tests; the last is against the baseline."""
    leader, rivals = tests["leader"].iloc[0], tests[:-1]
    tested = rivals[rivals["seeds"] > 0].sort_values(["p", "lead"], ascending=[True, False])
    nearest = _lead(tests.iloc[-1] if tested.empty else tested.iloc[-1])
    best = f"the best baseline, {baseline} at {loss:.4g}"
    equals = ", ".join(rivals["against"][~rivals["shown"]])
    if not baseline:
        return f"no verdict: no baseline is known on every seed ({nearest})"
    if loss < EXACT:
        return f"nothing can win: a baseline, {baseline}, is exact ({nearest})"
    if not tests["shown"].iloc[-1]:
        beats = "is shown to beat" if tests["lead"].iloc[-1] > 0 else "beats"
        separates = f", and nothing separates {leader} from {equals}" if equals else ""
        return f"nothing {beats} {best} ({_lead(tests.iloc[-1])}){separates}"
    if equals:
        return f"nothing separates {leader} from {equals} ({nearest})"
    return f"{leader} wins: {nearest}, and it beats {best}"


def _lead(test: "pd.Series[float]") -> str:
    """The leader's lead in a test, with its interval and the number of seeds."""
    name, rival = str(test["leader"]), str(test["against"])
    rival = f"the {rival}" if rival.startswith("baseline ") else rival
    over = f"over {test['seeds']} seed{'' if test['seeds'] == 1 else 's'}"
    lead, low, high = test["lead"], test["low"], test["high"]
    if lead == 0 and not high > low:
        return f"{name} and {rival} are equal {over}"
    verb, low, high = ("leads", low, high) if lead >= 0 else ("trails", -high, -low)
    interval = "" if test["seeds"] < 2 else f" (95% interval {low:.3g} to {high:.3g})"
    return f"{name} {verb} {rival} by {abs(lead):.3g}{interval} {over}"
