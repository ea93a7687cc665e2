"""Runs side by side, drawn: curves, profiles, a grid of two settings, reach against span.

A contestant is what is compared within a market: a model, or one of its settings. `models` names
the model of each contestant, in the order of the legend: colours follow it in all panels.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from statland.drawing import (
    DECADES,
    DIVERGING,
    DPI,
    FONT,
    Style,
    curve,
    finish,
    label_powers,
    legend_entry,
    name_ends,
    panels_of,
    plain,
    side_by_side,
    styles,
)

GREY, REACHES = "#d4d4d4", "#dcecdc"
BASELINE: dict[str, Any] = {"color": "black", "lw": 1.0, "ls": ":"}
ANSWER: dict[str, Any] = {"color": "black", "lw": 1.2, "ls": "-."}
THEORY: dict[str, Any] = {"color": "black", "lw": 0.9, "ls": (0, (1, 3))}
WHEN = {
    "before training": Line2D([], [], color="black", lw=1.6, ls="--"),
    "after training": Line2D([], [], color="black", lw=1.6),
}


def curves_figure(
    panels: Mapping[str, Mapping[str, Sequence[Sequence[tuple[int, float]]]]],
    baselines: Mapping[str, float],
    models: Mapping[str, str],
) -> Figure:
    """Validation loss by step, a panel a market: mean over seeds, band from lowest to highest.

    `panels` has (step, loss) pairs by market, contestant and seed.
    """
    style = styles(models)
    figure, all_axes = panels_of(panels)
    drawn: dict[str, Artist] = {}
    for axes, (market, curves) in zip(all_axes, panels.items(), strict=True):
        for name in (name for name in models if name in curves):
            mse, colour = _over_seeds(curves[name]), style[name].colour
            axes.fill_between(mse.index, mse["min"], mse["max"], color=colour, alpha=0.2, lw=0)
            curve(axes, mse.index.to_numpy(), mse["mean"].to_numpy(), style[name], name)
            drawn[name] = legend_entry(style[name])
        if baselines.get(market, 0) > 1e-12:
            drawn["best baseline"] = axes.axhline(baselines[market], **BASELINE)
        low, high = axes.dataLim.y0, axes.dataLim.y1
        if low > 0 and high > 3 * low:
            axes.set_yscale("log")
    return finish(figure, drawn, models, "training step", "validation mse")


def profiles_figure(
    panels: Mapping[str, Mapping[str, Sequence[Mapping[str, Sequence[float]]]]],
    spans: Mapping[str, float],
    models: Mapping[str, str],
    theory: Mapping[str, float] | None = None,
) -> Figure:
    """The gradient flow by days back, a panel a market: before training dashed, after it solid.

    `panels` has, by market, contestant and seed, log10 of the flow to the inputs by
    lag, before and after training; `spans` the days back to the answer, nan where none is known;
    `theory` decades a day by contestant. All panels have one scale. A curve is the median seed's.
    """
    style, theory = styles(models), theory or {}
    figure, all_axes = panels_of(panels, sharey=True)
    drawn: dict[str, Artist] = {}
    ends: dict[Axes, dict[str, tuple[float, float]]] = {axes: {} for axes in all_axes}
    for axes, (market, profiles) in zip(all_axes, panels.items(), strict=True):
        for name in (name for name in models if name in profiles):
            before = _median_seed(profiles[name], "before")
            after = _median_seed(profiles[name], "after")
            drawn[name] = legend_entry(style[name])
            if not np.array_equal(before, after, equal_nan=True):  # it was trained
                curve(axes, range(len(before)), before, style[name], "", dashed=True)
                drawn |= WHEN
            curve(axes, range(len(after)), after, style[name], name)
            if len(known := np.flatnonzero(np.isfinite(after))):
                ends[axes][name] = (float(known[-1]), float(after[known[-1]]))
            if len(before) and math.isfinite(theory.get(name, math.nan)):
                line = before[0] + theory[name] * np.array([0, len(before) - 1])
                (drawn["theory"],) = axes.plot([0, len(before) - 1], line, **THEORY, zorder=4)
        if math.isfinite(spans.get(market, math.nan)):
            drawn["the answer"] = axes.axvline(spans[market], **ANSWER)
    label_powers(all_axes[0])
    for axes in all_axes:
        name_ends(figure, axes, ends[axes], style)
    return finish(figure, drawn, models, "days back from the last day", "gradient flow  |dp/dx|")


def grid_figure(
    x: str, y: str, gradient: pd.DataFrame, loss: pd.DataFrame, lyapunov: pd.DataFrame
) -> Figure:
    """Two settings, y by x: decades from the last day to the first, beside the final loss.

    The line is where the largest Lyapunov exponent, before training, is 0. The tables may lack
    rows, columns and values; the gradient's scale is that of all heatmaps, the loss's ends where
    the whiskers of a box plot would.
    """
    tables = (gradient, loss, lyapunov)
    rows = gradient.index.union(loss.index).union(lyapunov.index)
    columns = gradient.columns.union(loss.columns).union(lyapunov.columns)
    decades, losses, exponents = (
        table.reindex(index=rows, columns=columns).to_numpy(float) for table in tables
    )
    with np.errstate(divide="ignore"):
        losses = np.log10(losses)
    figure = Figure(figsize=(8.8, 4.0), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    title = "gradient, first day over last, in decades"
    _mesh(left, decades, title, DIVERGING, -DECADES, DECADES, "both")
    _mesh(right, losses, "log10 of validation mse", "cividis", *_whiskers(losses))
    for axes in (left, right):
        axes.set_xticks(np.arange(len(columns)) + 0.5, [f"{v:g}" for v in columns])
        axes.set_yticks(np.arange(len(rows)) + 0.5, [f"{v:g}" for v in rows])
        axes.set_xlabel(plain(x))
    left.set_ylabel(plain(y))
    handles: list[Artist] = []
    if any([_zero_line(axes, exponents) for axes in (left, right)]):
        handles.append(Line2D([], [], color="black", lw=2, label="Lyapunov exponent 0"))
    if not np.isfinite([decades, losses]).all():
        handles.append(Patch(color=GREY, label="no finite value"))
    if handles:
        figure.legend(handles=handles, fontsize=FONT, loc="outside lower center", ncols=2)
    return figure


def forecast_figure(runs: pd.DataFrame, models: Mapping[str, str]) -> Figure:
    """Each run's reach before training, by its market's span, and whether it solved it.

    `runs` has the columns contestant, span, reach_before and solved, all days known. A column a
    span, shaded where the gradient reaches the answer. Runs of like reach stand side by side, in
    the order of `models`.
    """
    style, spans = styles(models), sorted(runs["span"].unique())
    order = runs["contestant"].map({name: place for place, name in enumerate(models)})
    runs = runs.iloc[np.argsort(order.to_numpy(), kind="stable")]
    width = min(6.0, max(1.2, 0.1 * runs["span"].value_counts().max()))  # inches a column
    figure = Figure(figsize=(2.6 + width * max(3, len(spans)), 4.0), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    top = 1.5 * max(runs["reach_before"].max(), *spans)
    for column, span in enumerate(spans):
        sides = [column - 0.46, column + 0.46]
        axes.fill_between(sides, span, top, color=REACHES, lw=0)
        axes.plot(sides, [span, span], color="black", lw=1.2, zorder=1)
        group = runs[runs["span"] == span]
        across = column + side_by_side(group["reach_before"].to_numpy(), 0.1 / width)
        for at, run in zip(across, group.itertuples(), strict=True):
            _dot(axes, at, run.reach_before, style[run.contestant], bool(run.solved))
    axes.set_xticks(range(len(spans)), [f"{span:g}" for span in spans])
    axes.set_xlim(-0.5, len(spans) - 0.5)
    _scale_days(axes, "y", runs["reach_before"].min(), top)
    drawn: dict[str, Artist] = {
        name: legend_entry(style[name], line=False) for name in runs["contestant"]
    }
    drawn["solved"] = Line2D([], [], color="black", marker="o", ls="")
    drawn["not solved"] = Line2D([], [], color="black", marker="o", mfc="white", ls="")
    drawn["reaches the answer"] = Patch(facecolor=REACHES, edgecolor="black", lw=1.2)
    names = "days back to the answer", "reach before training, in days"
    return finish(figure, drawn, models, *names)


def dependence_figure(
    panels: Mapping[str, pd.DataFrame], models: Mapping[str, str], is_linear: bool = False
) -> Figure:
    """How the prediction depends on the recurrent weights, by reach: a panel a market, a dot a run.

    `panels` has the columns contestant and, before and after training, reach (days) and log10_dp_dw
    (log10 of the root mean square of |dp/dW|), known before. Open dots are before training. For
    linear units that forget and are never trained a line shows how it grows in the limit: as the
    reach to the power of 3/2.
    """
    style = styles(models)
    figure, all_axes = panels_of(panels, sharey=True)
    drawn: dict[str, Artist] = {}
    reaches = pd.concat(panels.values())[["reach_before", "reach_after"]].to_numpy(float)
    for axes, runs in zip(all_axes, panels.values(), strict=True):
        for run in runs.to_dict("records"):
            look = style[run["contestant"]]
            drawn[run["contestant"]] = legend_entry(look, line=False)
            before, now = (
                (float(run[f"reach_{when}"]), float(run[f"log10_dp_dw_{when}"]))
                for when in ("before", "after")
            )
            for place, solid in ((now, True), (before, now == before)):
                if math.isfinite(sum(place)):
                    _dot(axes, *place, look, solid)
        if is_linear:
            reach = np.sort(runs["reach_before"].to_numpy(float).clip(1))
            longest = runs.loc[runs["reach_before"] == runs["reach_before"].max()]
            grown = longest["log10_dp_dw_before"].mean() + 1.5 * np.log10(reach / reach[-1])
            (drawn["reach to the power of 3/2"],) = axes.plot(reach, grown, **THEORY)
        _scale_days(axes, "x", np.nanmin(reaches), 1.5 * max(1.0, np.nanmax(reaches)))
    label_powers(all_axes[0])
    if any((runs["steps"] > 0).any() for runs in panels.values()):
        for name, fill in (("before training", "white"), ("after training", "black")):
            drawn[name] = Line2D([], [], color="black", marker="o", mfc=fill, ls="")
    return finish(figure, drawn, models, "reach, in days", "dependence on the weights  |dp/dW|")


def _over_seeds(seeds: Sequence[Sequence[tuple[int, float]]]) -> pd.DataFrame:
    """By step, the lowest, mean and highest of the values that are finite."""
    pairs = [pair for seed in seeds for pair in seed if math.isfinite(pair[1])]
    by_step = pd.DataFrame(pairs, columns=["step", "mse"], dtype=float).groupby("step")["mse"]
    return by_step.agg(["min", "mean", "max"])


def _median_seed(seeds: Sequence[Mapping[str, Sequence[float]]], when: str) -> np.ndarray:
    """The median (the lower, of two) over seeds at each lag that all have; nan where not finite."""
    rows = [seed[when] for seed in seeds if when in seed]
    lags = min(map(len, rows), default=0)
    stacked = np.array([row[:lags] for row in rows]).reshape(len(rows), lags)
    median = np.sort(stacked, axis=0)[(len(rows) - 1) // 2] if rows else stacked[:0].ravel()
    return np.where(np.isfinite(median), median, np.nan)


def _mesh(
    axes: Axes, values: np.ndarray, title: str, colours: str, low: float, high: float, extend: str
) -> None:
    """A table's values, grey where they are not finite."""
    values = np.where(np.isfinite(values), values, np.nan)
    mesh = axes.pcolormesh(values, cmap=colours, vmin=low, vmax=high, edgecolors="white", lw=0.5)
    axes.set_facecolor(GREY)
    axes.set_title(title, fontsize=FONT + 1)
    ticks = range(-DECADES, DECADES + 1, 4) if colours == DIVERGING else None
    axes.figure.colorbar(mesh, ax=axes, extend=extend, ticks=ticks)


def _whiskers(values: np.ndarray) -> tuple[float, float, str]:
    """Limits as of a box plot, which a few outliers do not set, and which ends are clipped."""
    seen = values[np.isfinite(values)]
    if not len(seen):
        return -1.0, 0.0, "neither"
    lower, upper = np.quantile(seen, [0.25, 0.75])
    reach = 1.5 * (upper - lower)
    low, high = seen[seen >= lower - reach].min(), seen[seen <= upper + reach].max()
    extend = ("neither", "min", "max", "both")[(seen.min() < low) + 2 * (seen.max() > high)]
    return float(low), float(max(high, low + 0.1)), extend


def _zero_line(axes: Axes, exponents: np.ndarray) -> bool:
    """Draw where they are 0, between the rows and columns that have any; say whether there is."""
    known = np.isfinite(exponents)
    rows, columns = known.any(1), known.any(0)
    seen = exponents[known]
    if min(rows.sum(), columns.sum()) < 2 or not seen.min() < 0 < seen.max():
        return False
    up, across = np.flatnonzero(rows) + 0.5, np.flatnonzero(columns) + 0.5
    inside = np.ma.masked_invalid(exponents[rows][:, columns])
    axes.contour(across, up, inside, levels=[0], colors="black", linewidths=2)
    return True


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
    axes.grid(alpha=0.25, axis=which)  # type: ignore[arg-type]  # x or y


def _dot(axes: Axes, x: float, y: float, style: Style, solved: bool) -> None:
    look: dict[str, Any] = {"mfc": style.colour if solved else "white", "marker": style.marker}
    axes.plot([x], [y], color=style.colour, ls="", ms=6.5, mew=1.3, clip_on=False, zorder=3, **look)
