"""Verdicts on runs: the losses of each market, judged, and the sentence that says the outcome."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from statland.data.base import EXACT
from statland.report.verdicts import Verdict, judge


class SharedLosses(NamedTuple):
    """What is compared on one market: C contestants over the S seeds that all of them have."""

    market: str
    names: list[str]  # of the C contestants
    losses: pd.DataFrame  # (S, C) by seed; inf where a run diverged
    best_baseline: str  # its name
    baseline: "pd.Series[float]"  # (S,) its losses; nan where no run knows them
    absent: list[str]  # contestants of which no run has ended
    all_seeds: int  # how many there are that at least one contestant has


class MarketVerdict(NamedTuple):
    """The verdict on one market, as a sentence and as rows of a table."""

    sentence: str
    tests: pd.DataFrame  # market, leader, against, lead, low, high, p, seeds, shown


def verdicts(runs: pd.DataFrame, pooled: Sequence[str] = ()) -> list[MarketVerdict]:
    """The verdict on each market that has two contestants or more.

    `runs` and `pooled` are those of groups.Groups: over pooled settings a seed's losses are
    averaged.
    """
    return [
        _verdict(_shared_losses(str(market), group, pooled))
        for market, group in runs.groupby("market", sort=False)
        if group["contestant"].nunique() > 1
    ]


def _shared_losses(market: str, runs: pd.DataFrame, pooled: Sequence[str]) -> SharedLosses:
    """The losses of a market's contestants over the seeds that all of them have."""
    counted = runs[runs["counts"]]
    loss = counted["validation"].where(counted["status"] == "completed").fillna(np.inf)
    units = [counted["seed"], *(counted[key].astype(str) for key in pooled)]
    table = loss.groupby([counted["contestant"], *units]).mean().unstack("contestant")
    names = list(dict.fromkeys(counted["contestant"]))
    losses = table[names].dropna().groupby("seed").mean()
    # A baseline is the market's, not the model's: any run on a seed gives it.
    by_seed = runs.filter(regex="^baseline/").groupby(runs["seed"]).mean().reindex(losses.index)
    known = by_seed.dropna(axis="columns")
    unknown = known.empty
    best = "" if unknown else str(known.mean().idxmin())
    return SharedLosses(
        market=market,
        names=names,
        losses=losses,
        best_baseline=best.removeprefix("baseline/"),
        baseline=pd.Series(np.nan, losses.index) if unknown else known[best],
        absent=[name for name in dict.fromkeys(runs["contestant"]) if name not in names],
        all_seeds=counted["seed"].nunique(),
    )


def _verdict(shared: SharedLosses) -> MarketVerdict:
    tests = pd.DataFrame()
    verdict = None
    if len(shared.names) < 2:
        parts = ["no verdict: fewer than two contestants have completed runs"]
    elif shared.losses.empty:
        parts = ["no verdict: the contestants share no seed; two are needed"]
    else:
        verdict = judge(shared.losses.to_numpy(), shared.baseline.to_numpy())
        parts = [_claim(shared, verdict)]
        if not (verdict.diverged > 0).all():
            tests = _tests(shared, verdict)
    parts += _reservations(shared, verdict)
    return MarketVerdict(f"{shared.market}: {'; '.join(parts)}", tests)


def _claim(shared: SharedLosses, verdict: Verdict) -> str:
    """Who wins, or why nobody does."""
    if (verdict.diverged > 0).all():
        return "no verdict: every contestant diverged"
    leader = int(verdict.leader)
    lead = _lead(shared, verdict, _nearest(verdict))
    baseline = f"the best baseline, {shared.best_baseline} at {shared.baseline.mean():.4g}"
    rivals = [
        name
        for place, name in enumerate(shared.names)
        if place != leader and not verdict.beaten[place]
    ]
    separates = f"nothing separates {shared.names[leader]} from {', '.join(rivals)}"
    if not shared.best_baseline:
        return f"no verdict: no baseline is known on every seed ({lead})"
    if shared.baseline.mean() < EXACT:
        return f"nothing can win: a baseline, {shared.best_baseline}, is exact ({lead})"
    if len(shared.losses) < 2:
        return f"no verdict: one seed names no winner, two are needed ({lead})"
    if not verdict.beaten[-1]:
        beats = "is shown to beat" if verdict.tests.lead[-1] > 0 else "beats"
        facts = _lead(shared, verdict, len(shared.names))
        return f"nothing {beats} {baseline} ({facts})" + (f", and {separates}" if rivals else "")
    if rivals:
        return f"{separates} ({lead})"
    return f"{shared.names[leader]} wins: {lead}, and it beats {baseline}"


def _nearest(verdict: Verdict) -> int:
    """Of the contestants that were tested the one from which the leader is separated least.

    The baseline's place where none was tested.
    """
    p, lead = np.nan_to_num(verdict.tests.p, nan=-1.0), verdict.tests.lead
    tested = np.flatnonzero(verdict.tests.seeds[:-1] > 0).tolist()
    rivals = [place for place in tested if place != int(verdict.leader)]
    return max(rivals, key=lambda place: (p[place], -lead[place]), default=len(p) - 1)


def _lead(shared: SharedLosses, verdict: Verdict, place: int) -> str:
    """The leader's lead over the rival at `place`, with its interval and the number of seeds."""
    rival = [*shared.names, f"the baseline {shared.best_baseline}"][place]
    name = shared.names[int(verdict.leader)]
    lead, low, high, _, seeds = (field[place] for field in verdict.tests)
    over = f"{seeds} seed{'' if seeds == 1 else 's'}"
    if lead == 0 and not high > low:
        return f"{name} and {rival} are equal over {over}"
    verb, sign = ("leads", 1) if lead >= 0 else ("trails", -1)
    low, high = sorted((sign * low, sign * high))
    interval = "" if seeds < 2 else f" (95% interval {low:.3g} to {high:.3g})"
    if seeds == len(shared.losses) < shared.all_seeds:
        over = f"the {seeds} of {shared.all_seeds} seeds that all have"
    return f"{name} {verb} {rival} by {abs(lead):.3g}{interval} over {over}"


def _reservations(shared: SharedLosses, verdict: Verdict | None) -> list[str]:
    """Contestants that cannot win, and why."""
    said = []
    if verdict is not None:
        of = len(shared.losses)
        for name, count in zip(shared.names, verdict.diverged.tolist(), strict=True):
            said += [f"{name} diverged on {count} of {of} seeds and cannot win"] if count else []
        few = [name for name, few in zip(shared.names, verdict.too_few, strict=True) if few]
        if few and of > 1 and not (verdict.diverged > 0).all():
            said.append(f"two seeds cannot show that {', '.join(few)} never solves it")
    if shared.absent:
        said.append(f"not compared, for no run of it ended: {', '.join(shared.absent)}")
    return said


def _tests(shared: SharedLosses, verdict: Verdict) -> pd.DataFrame:
    """A row for each test of the leader."""
    against = [*shared.names, f"baseline {shared.best_baseline}"]
    settings = {"market": shared.market, "leader": against[int(verdict.leader)], "against": against}
    frame = pd.DataFrame({**settings, **verdict.tests._asdict(), "shown": verdict.beaten})
    return frame.drop(index=int(verdict.leader))
