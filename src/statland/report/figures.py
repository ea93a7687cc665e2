"""Runs side by side, drawn: curves, profiles, a grid of two settings, the forecast."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from statland.drawing import COLOURS, label_powers


def curves_figure(
    panels: Mapping[str, Mapping[str, Sequence[Sequence[tuple[int, float]]]]],
    baselines: Mapping[str, float],
) -> Figure:
    """Validation loss by step, a panel a market: mean over seeds, band from lowest to highest."""
    figure, all_axes = _panels(panels)
    for axes, (market, curves) in zip(all_axes, panels.items(), strict=False):
        for colour, (name, seeds) in zip(_colours(curves), curves.items(), strict=True):
            by_step: dict[int, list[float]] = {}
            for step, value in (pair for seed in seeds for pair in seed):
                if math.isfinite(value):
                    by_step.setdefault(step, []).append(value)
            steps = sorted(by_step)
            low, high = ([f(by_step[step]) for step in steps] for f in (min, max))
            means = [sum(by_step[step]) / len(by_step[step]) for step in steps]
            axes.fill_between(steps, low, high, color=colour, alpha=0.2, lw=0)
            axes.plot(steps, means, color=colour, lw=1.6, label=name)
        if baselines.get(market, 0) > 1e-12:
            axes.axhline(baselines[market], color="black", lw=0.8, ls=":", label="best baseline")
        _, low, _, high = axes.dataLim.extents.tolist()
        if low > 0 and high > 3 * low:
            axes.set_yscale("log")
        axes.set_title(market, fontsize=9)
        axes.grid(alpha=0.25)
    return _finish(figure, all_axes, "training step", "validation mse")


def profiles_figure(
    panels: Mapping[str, Mapping[str, Sequence[Mapping[str, Sequence[float]]]]],
    spans: Mapping[str, float],
) -> Figure:
    """The gradient flow by days back, a panel a market: before training dashed, after it solid."""
    figure, all_axes = _panels(panels)
    for axes, (market, profiles) in zip(all_axes, panels.items(), strict=False):
        for colour, (name, seeds) in zip(_colours(profiles), profiles.items(), strict=True):
            for when, dashes in (("before", "--"), ("after", "-")):
                rows = [seed[when] for seed in seeds if when in seed]
                if not rows:
                    continue
                lags = min(map(len, rows))
                stacked = np.array([row[:lags] for row in rows])
                median = np.sort(stacked, axis=0)[(len(rows) - 1) // 2]
                median = np.where(np.isfinite(median), median, np.nan)
                label = name if when == "after" else None
                axes.plot(median, color=colour, lw=1.6, ls=dashes, label=label)
        if math.isfinite(spans.get(market, math.nan)):
            axes.axvline(spans[market], color="black", lw=1.2, ls="-.")
        label_powers(axes)
        axes.set_title(market, fontsize=9)
        axes.grid(alpha=0.25)
    return _finish(
        figure, all_axes, "days back (dashed: before training; black: the answer)", "gradient flow"
    )


def grid_figure(
    x: str, y: str, gradient: pd.DataFrame, loss: pd.DataFrame, lyapunov: pd.DataFrame
) -> Figure:
    """Two settings, y by x: decades from the last day to the first, beside the final loss.

    The line is where the largest Lyapunov exponent, before training, is 0.
    """
    figure = Figure(figsize=(8.4, 3.6), dpi=130, layout="constrained")
    panels = [
        (gradient, "gradient, first day over last: decades", "RdBu_r"),
        (loss.map(np.log10), "log10 of validation mse", "cividis"),
    ]
    for axes, (table, title, colours) in zip(figure.subplots(1, 2), panels, strict=True):
        values = table.to_numpy(float)
        seen = values[np.isfinite(values)]
        limit = float(np.abs(seen).max()) if len(seen) else 1.0
        limits = {"vmin": -limit, "vmax": limit} if colours == "RdBu_r" else {}
        mesh = axes.pcolormesh(values, cmap=colours, edgecolors="white", lw=0.5, **limits)
        axes.set_xticks(np.arange(len(table.columns)) + 0.5, [f"{v:g}" for v in table.columns])
        axes.set_yticks(np.arange(len(table.index)) + 0.5, [f"{v:g}" for v in table.index])
        exponents = lyapunov.to_numpy(float)
        if min(exponents.shape) > 1 and np.nanmin(exponents) < 0 < np.nanmax(exponents):
            across, up = (np.arange(size) + 0.5 for size in exponents.shape[::-1])
            axes.contour(across, up, exponents, levels=[0], colors="black", linewidths=2)
            axes.plot([], [], color="black", lw=2, label="Lyapunov exponent 0")
            axes.legend(fontsize=7, loc="lower right")
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.set_title(title, fontsize=10)
        axes.set_facecolor("#dddddd")
        figure.colorbar(mesh, ax=axes)
    return figure


def _panels(names: Mapping[str, object]) -> tuple[Figure, list[Axes]]:
    """A row or two of panels with common axes."""
    across = min(3, len(names))
    down = math.ceil(len(names) / across)
    figure = Figure(figsize=(1.6 + 3.2 * across, 0.9 + 2.6 * down), dpi=130, layout="constrained")
    all_axes = figure.subplots(down, across, squeeze=False).flatten().tolist()
    for axes in all_axes[len(names) :]:
        axes.remove()
    return figure, all_axes[: len(names)]


def _colours(names: Mapping[str, object]) -> list[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(len(names))]


def _finish(figure: Figure, all_axes: list[Axes], x: str, y: str) -> Figure:
    """Name the axes once, and give one legend for all panels."""
    for axes in all_axes:
        axes.tick_params(which="both", labelsize=8)
    figure.supxlabel(x, fontsize=9)
    figure.supylabel(y, fontsize=9)
    entries = {
        label: handle
        for axes in all_axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if entries:
        figure.legend(
            entries.values(), entries.keys(), fontsize=8, loc="outside right upper", frameon=False
        )
    return figure


def forecast_figure(runs: pd.DataFrame) -> Figure:
    """Each run's reach before training against its market's span, and whether it solved it.

    `runs` has the columns contestant, span, reach_before and solved. On the line the gradient just
    reaches the answer. Runs are moved apart a little, so that all are seen.
    """
    figure = Figure(figsize=(6.4, 4.0), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    names = list(dict.fromkeys(runs["contestant"]))
    most = max(runs["span"].max(), runs["reach_before"].max())
    axes.plot([1, most], [1, most], color="black", lw=0.8, ls=":")
    for place, name in enumerate(names):
        mine, colour = runs[runs["contestant"] == name], COLOURS[place % len(COLOURS)]
        apart = 1.025 ** (place - (len(names) - 1) / 2)
        for solved, face in ((True, colour), (False, "white")):
            some = mine[mine["solved"].astype(bool) == solved]
            axes.scatter(
                some["span"] * apart,
                some["reach_before"].clip(lower=1),
                s=34,
                facecolors=face,
                edgecolors=colour,
                label=name if solved else None,
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("days back to the answer")
    axes.set_ylabel("reach before training, days")
    axes.set_title("filled: solved; on or above the line: foretold", fontsize=10)
    axes.grid(alpha=0.25)
    figure.legend(fontsize=8, loc="outside right upper", frameon=False)
    return figure
