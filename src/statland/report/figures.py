"""Figures of runs side by side: each draws a frame of one row per run, that of groups.Groups.

A contestant is what is compared within a market: a model, or one of its settings.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from statland.drawing import (
    FONT,
    UNKNOWN,
    Figure,
    Style,
    curve,
    finish,
    label_powers,
    legend_of,
    panels_of,
    power,
    styles,
)
from statland.report.forecast import REACHED

NEVER = "#efefef"  # the band of runs that never solve
SHARES = (-50, 3)  # decades: the shares of the forecast are drawn within these
DECADES = 12  # of a grid's gradient: one scale for all sweeps
THEORY: dict[str, Any] = {"color": "black", "lw": 0.9, "ls": (0, (1, 3))}


def curves_figure(runs: pd.DataFrame, curves: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """Validation loss by step, one panel per market: mean over seeds, band from lowest to highest.

    `curves` holds (step, loss) pairs by the runs' folder.
    """
    (figure, panels), style = _panels(runs), _styles(runs)
    drawn = legend_of(style)
    for axes, market in panels:
        for name, seeds in market.groupby("contestant", sort=False):
            pairs = [pair for folder in seeds["folder"] for pair in curves[folder]]
            by_step = pd.DataFrame(pairs, columns=["step", "loss"], dtype=float)
            by_step = by_step[np.isfinite(by_step["loss"])].groupby("step")["loss"]
            loss, look = by_step.agg(["min", "mean", "max"]), style[str(name)]
            ends = loss["min"], loss["max"]
            axes.fill_between(loss.index, *ends, color=look.colour, alpha=0.2, lw=0)
            curve(axes, loss.index.to_numpy(), loss["mean"].to_numpy(), look, str(name))
        if (baseline := market["best_baseline"].mean()) > 1e-12:
            drawn["best baseline"] = axes.axhline(baseline, color="black", lw=1.0, ls=":")
        low, high = axes.dataLim.y0, axes.dataLim.y1
        if low > 0 and high > 3 * low:
            axes.set_yscale("log")
    return finish(figure, drawn, "training step", "validation loss")


def profiles_figure(
    runs: pd.DataFrame, profiles: Mapping[str, Mapping[str, Sequence[float]]]
) -> Figure:
    """The gradient flow by days back, one panel per market: before training dashed, after it solid.

    `profiles` holds log10 of the flow to the inputs by lag, before and after, by the runs' folder.
    A curve is the median seed's. Marked: the answer, and theory's line for what is never trained.
    """
    (figure, panels), style = _panels(runs), _styles(runs)
    drawn = legend_of(style)
    for axes, market in panels:
        for name, seeds in market.groupby("contestant", sort=False):
            found = [profiles[folder] for folder in seeds["folder"]]
            before, after = (_median_seed(found, when) for when in ("before", "after"))
            lags, look = np.arange(len(before)), style[str(name)]
            if not np.array_equal(before, after, equal_nan=True):  # it was trained
                curve(axes, lags, before, look, "", dashed=True)
                drawn["before training"] = Line2D([], [], color="black", lw=1.6, ls="--")
                drawn["after training"] = Line2D([], [], color="black", lw=1.6)
            curve(axes, np.arange(len(after)), after, look, str(name))
            theory = seeds["theory_before"].where(seeds["steps"] == 0).mean()
            if len(before) and math.isfinite(theory):
                (drawn["theory"],) = axes.plot(lags, before[0] + theory * lags, **THEORY, zorder=4)
        # Weights that are never trained have no answer to look for.
        if (market["steps"] > 0).any() and math.isfinite(span := market["span"].mean()):
            drawn["the answer"] = axes.axvline(span, color="black", lw=1.2, ls="-.")
    label_powers(*(axes for axes, _ in panels))
    return finish(figure, drawn, "days back from the last day", "gradient flow  |dp/dx|")


def grid_figure(runs: pd.DataFrame, y: str, x: str) -> Figure:
    """Two settings, y by x: decades from the last day to the first, beside the final loss.

    The line is where the largest Lyapunov exponent, before training, is 0. The gradient's scale is
    that of all heatmaps, the loss's ends where the whiskers of a box plot would.
    """
    rows, columns = (sorted(runs[key].dropna().unique()) for key in (y, x))
    gradient, loss, exponents = (
        runs.pivot_table(index=y, columns=x, values=value)
        for value in ("first_to_last_before", "validation", "lyapunov_before")
    )
    # With the rows and columns, too, in which every run diverged.
    decades, losses = (
        table.reindex(rows, columns=columns).to_numpy(float) for table in (gradient, loss)
    )
    with np.errstate(divide="ignore"):
        losses = np.log10(losses)
    figure, panels = panels_of(["log10 gradient, first over last day", "log10 of validation loss"])
    _mesh(panels[0], decades, "RdBu_r", -DECADES, DECADES)
    _mesh(panels[1], losses, "cividis", *_whiskers(losses))
    drawn: dict[str, Artist] = {}
    known = np.ma.masked_invalid(exponents.to_numpy(float))
    up, across = np.isin(rows, exponents.index), np.isin(columns, exponents.columns)
    for axes in panels:
        axes.set_xticks(np.arange(len(columns)) + 0.5, [f"{v:g}" for v in columns])
        axes.set_yticks(np.arange(len(rows)) + 0.5, [f"{v:g}" for v in rows])
        if min(known.shape) > 1 and known.min() < 0 < known.max():
            places = np.flatnonzero(across) + 0.5, np.flatnonzero(up) + 0.5
            axes.contour(*places, known, levels=[0], colors="black", linewidths=2)
            drawn["Lyapunov exponent 0"] = Line2D([], [], color="black", lw=2)
    if not np.isfinite([decades, losses]).all():
        drawn["no finite value"] = Patch(color=UNKNOWN)
    return finish(figure, drawn, x, y)


def forecast_figure(runs: pd.DataFrame) -> Figure:
    """The answer's share before training against the steps until a run solves, if it does.

    A small dot is a run, in the band on top one that never solves; a large one is the median of a
    contestant's seeds, and those of one contestant are linked.
    """
    style = _styles(runs)
    figure, (axes,) = panels_of([""])
    figure.set_size_inches(8, 4.6)
    steps = runs["steps_to_solve"]
    most = max(10.0, runs["steps"].clip(upper=1e15).max())  # no run may have more
    never, foot = 2 * most, max(1.0, 0.6 * steps.min()) if steps.notna().any() else 1.0
    runs = runs.assign(x=runs["share_before"].clip(*SHARES), y=steps.fillna(never).clip(lower=1))
    axes.axhspan(1.35 * most, 3 * most, color=NEVER, lw=0)
    for name, own in runs.groupby("contestant", sort=False):
        look = style[str(name)]
        dots: dict[str, Any] = {"color": look.colour, "marker": look.marker, "mec": "white"}
        axes.plot(own["x"], own["y"], ls="", ms=4, alpha=0.5, mew=0, **dots)
        medians = own.groupby("market", sort=False)[["x", "y"]].median().sort_values("x")
        axes.plot(medians["x"], medians["y"], lw=1.0, ms=9, mew=0.7, zorder=3, **dots)
    axes.set_xscale("symlog", linthresh=1, linscale=0.6)
    ticks = [-50, -20, -10, -5, -2, -1, 0, 1]
    axes.set_xticks(ticks, ["nothing", *map(power, ticks[1:-2]), "even share", power(1)])
    axes.xaxis.set_minor_locator(NullLocator())
    low, high = runs["x"].min(), runs["x"].max()
    axes.set_xlim(1.3 * min(low, REACHED), max(1.0, high) + 0.3)
    axes.set_yscale("log")
    axes.set_ylim(foot, 3 * most)
    axes.axvline(REACHED, color="black", lw=0.9, ls=":")
    # Above the dots, by an empty line.
    axes.text(axes.get_xlim()[0], never, "  not solved\n", fontsize=FONT, va="bottom")
    axes.text(REACHED, foot, "below 1%  ", fontsize=FONT, va="bottom", ha="right")
    drawn = legend_of(style, line=False)
    return finish(figure, drawn, "the answer's share before training", "steps until solved")


def dependence_figure(runs: pd.DataFrame) -> Figure:
    """How the prediction depends on the recurrent weights, by reach: one panel per market.

    A run has an open dot before training and a solid one after. For linear units that forget and
    are never trained a line shows how it grows in the limit: as the reach to the power of 3/2.
    """
    (figure, panels), style = _panels(runs), _styles(runs)
    drawn = legend_of(style, line=False)
    reaches = runs[["reach_before", "reach_after"]].to_numpy(float)
    for axes, market in panels:
        for run in market.to_dict("records"):
            before, after = (
                (float(run[f"reach_{when}"]), float(run[f"log10_dp_dw_{when}"]))
                for when in ("before", "after")
            )
            for place, solid in ((after, True), (before, after == before)):
                if math.isfinite(sum(place)):
                    _dot(axes, *place, style[run["contestant"]], solid)
        if ((runs["steps"] == 0) & (runs["theory_before"] < 0)).all():
            reach = np.sort(market["reach_before"].clip(lower=1))
            longest = market[market["reach_before"] == market["reach_before"].max()]
            grown = longest["log10_dp_dw_before"].mean() + 1.5 * np.log10(reach / reach[-1])
            (drawn["reach to the power of 3/2"],) = axes.plot(reach, grown, **THEORY)
        _scale_days(axes, "x", np.nanmin(reaches), 1.5 * max(1.0, np.nanmax(reaches)))
    label_powers(*(axes for axes, _ in panels))
    if (runs["steps"] > 0).any():
        look: dict[str, Any] = {"color": "black", "marker": "o", "ls": ""}
        drawn["after training"] = Line2D([], [], **look)
        drawn["before training"] = Line2D([], [], mfc="white", **look)
    return finish(figure, drawn, "reach, in days", "dependence on the weights  |dp/dW|")


def _panels(runs: pd.DataFrame) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """A figure of one panel per market, with the market's runs."""
    markets = {str(market): group for market, group in runs.groupby("market", sort=False)}
    figure, panels = panels_of(list(markets))
    return figure, list(zip(panels, markets.values(), strict=True))


def _styles(runs: pd.DataFrame) -> dict[str, Style]:
    return styles(dict(zip(runs["contestant"], runs["model"], strict=True)))


def _median_seed(seeds: Sequence[Mapping[str, Sequence[float]]], when: str) -> np.ndarray:
    """The median (the lower, of two) over seeds at each lag that all have; nan where not finite."""
    rows = [seed[when] for seed in seeds if when in seed]
    by_lag = np.sort(list(zip(*rows, strict=False)))  # nan comes last
    median = by_lag[:, (len(rows) - 1) // 2] if rows else by_lag
    return np.where(np.isfinite(median), median, np.nan)


def _mesh(axes: Axes, values: np.ndarray, colours: str, low: float, high: float) -> None:
    """A table's values, grey where they are not finite."""
    values = np.where(np.isfinite(values), values, np.nan)
    mesh = axes.pcolormesh(values, cmap=colours, vmin=low, vmax=high, edgecolors="white", lw=0.5)
    axes.set_facecolor(UNKNOWN)
    axes.grid(visible=False)
    axes.figure.colorbar(mesh, ax=axes, extend="both")


def _whiskers(values: np.ndarray) -> tuple[float, float]:
    """Limits as of a box plot, which a few outliers do not set."""
    seen = values[np.isfinite(values)]
    if not len(seen):
        return -1.0, 0.0
    lower, upper = np.quantile(seen, [0.25, 0.75])
    reach = 1.5 * (upper - lower)
    low, high = seen[seen >= lower - reach].min(), seen[seen <= upper + reach].max()
    return low, max(low + 0.1, high)


def _scale_days(axes: Axes, which: str, fewest: float, top: float) -> None:
    """A logarithmic axis, x or y, of days from the fewest on; 0 has a place on it."""
    foot = -0.3 if fewest < 1 else 0.6 * fewest
    getattr(axes, f"set_{which}scale")("symlog", linthresh=1, linscale=0.3)
    ticks = [0, *(d * 10**e for e in range(7) for d in (1, 2, 5))]
    ticks = [tick for tick in ticks if foot <= tick <= top]
    axis: Axis = getattr(axes, f"{which}axis")
    axis.set_ticks(ticks, labels=[str(tick) for tick in ticks])
    axis.set_minor_locator(NullLocator())
    getattr(axes, f"set_{which}lim")(foot, top)


def _dot(axes: Axes, x: float, y: float, style: Style, solid: bool) -> None:
    look: dict[str, Any] = {"mfc": style.colour if solid else "white", "marker": style.marker}
    axes.plot([x], [y], color=style.colour, ls="", ms=6.5, mew=1.3, clip_on=False, zorder=3, **look)
