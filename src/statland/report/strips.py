"""Strips: how much of the gradient each day gets, one strip per contestant."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from statland.drawing import FONT, draw_strips, label_even_shares, plain, stacked_panels
from statland.gradients.share import even_shares
from statland.report.statistics import median_steps

if TYPE_CHECKING:
    from statland.drawing import Figure

Profiles = Mapping[str, Sequence[float]]  # log10 of the flow by lag, "before" training and "after"


def strips_figure(runs: pd.DataFrame, profiles: Mapping[str, Profiles]) -> "Figure":
    """Draw a strip per contestant: each day's gradient against an even share.

    The first day is on the left, the last on the right; strips are ordered by the share of the
    answer before training. A strip is the median over seeds, of the median flow to the inputs;
    `profiles` holds that flow by the runs' folder. Grey: not measured, as after a run has diverged.
    """
    markets = {str(market): own for market, own in runs.groupby("market", sort=False)}
    moments = ("before", "after") if (runs["steps"] > 0).any() else ("before",)
    counts = [own["contestant"].nunique() for own in markets.values()]
    figure, panels = stacked_panels(counts, len(moments))
    for (market, own), axes in zip(markets.items(), panels, strict=True):
        order = own.groupby("contestant", sort=False)["share_before"].median()
        names = list(order.sort_values(ascending=False, kind="stable").index)
        days = max((len(profiles[f].get("before", ())) for f in own["folder"]), default=1)
        for panel, when in zip(axes, moments, strict=True):
            strips = {}
            for name in names:
                found = [profiles[f] for f in own["folder"][own["contestant"] == name]]
                strips[name] = _strip([profile[when] for profile in found if when in profile])
            mesh = draw_strips(panel, strips, days)
            if when == "after":
                panel.set_yticks([])
            where = f"{plain(market, 36)}: " if len(markets) > 1 else ""
            panel.set_title(f"{where}{when} training", fontsize=FONT + 1)
            _label_days(panel, days, own["span"].mean())
        sides = [_solved_in_words(own[own["contestant"] == name]) for name in names]
        right = axes[-1].secondary_yaxis("right")
        right.set_yticks(range(len(names)), sides)
        right.tick_params(labelsize=FONT, right=False, length=0)
        right.spines[:].set_visible(False)
    bar = figure.colorbar(mesh, ax=panels, aspect=30, shrink=min(1, 6 / sum(counts)))
    label_even_shares(bar)
    return figure


def _strip(seeds: Sequence[Sequence[float]]) -> torch.Tensor:
    """The median over seeds of log10 against an even share, by lag."""
    if not seeds:
        return torch.empty(0)
    known = torch.tensor(list(zip(*seeds, strict=False)), dtype=torch.float64).T  # lags of all
    return even_shares(known).nanmedian(0).values


def _label_days(axes: Any, days: int, span: float) -> None:
    """Name the first day, the last, and the answer's farthest."""
    names = {0: "first day", days - 1: "last day"}
    if math.isfinite(span):  # on a line of its own, as it may lie close to the others
        place = days - 1 - int(span)
        names[place] = f"{names[place]}:\nthe answer" if place in names else "\nthe answer"
    axes.set_xticks(list(names), names.values())


def _solved_in_words(runs: pd.DataFrame) -> str:
    """How many seeds have solved, and the median of their steps where that is ever."""
    diverged = int((runs["status"] == "diverged").sum())
    lost = f", {diverged} diverged" if diverged else ""
    if runs["solved_below"].isna().all():
        return lost.lstrip(", ")
    median = median_steps(runs)
    steps = f", {median:g} steps" if math.isfinite(median) else ""
    return f"{int(runs['solved'].sum())} of {len(runs)}{steps}{lost}"
