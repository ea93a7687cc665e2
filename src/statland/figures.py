"""Every drawing, with matplotlib's objects: no pyplot, no global state.

Values span hundreds of decades, beyond any float: axes hold log10 and are labelled as powers.
Colours are of Okabe and Ito's palette and of cividis, which colour-blind readers tell apart.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from torch import Tensor

from statland.gradients.flow import REACH, Profile, reach_days
from statland.probe import Probed

BEFORE, AFTER, THEORY, SPAN = "#999999", "#0072B2", "#D55E00", "#009E73"
PARTS = {"h": ("#E69F00", (0, (1, 1))), "c": ("#CC79A7", (0, (4, 1)))}
# Small in inches, so that the letters are large in a thumbnail.
SIZE, DPI = (5.2, 3.5), 150


def profile_figure(
    title: str,
    before: Probed,
    after: Probed,
    span: int | None,
    theory: float | None,
) -> Figure:
    """The flow against days back, before and after training: medians and bands from p10 to p90.

    Marked: the 1% level, the market's span in days, and the line that theory gives, in decades a
    day.
    """
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    drawn = [(before, BEFORE, "before training")]
    if after.step != before.step:
        drawn.append((after, AFTER, f"after {after.step} steps"))
    for probed, colour, name in drawn:
        _band(axes, probed.profiles["state"], colour, name)
    now = drawn[-1][0].profiles["state"]
    for part, (colour, dashes) in PARTS.items():
        if part in after.profiles:
            median = _there(after.profiles[part].median)
            axes.plot(median, color=colour, ls=dashes, lw=1.4, label=f"of it, through {part}")
    level = now.median[0].item()
    if math.isfinite(level):
        axes.axhline(level + math.log10(REACH), color="black", lw=0.8, ls=":")
        axes.annotate(
            "1% of lag 0" + (" after training" if len(drawn) > 1 else ""),
            (0.6, level + math.log10(REACH)),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            fontsize=8,
        )
    if theory is not None and math.isfinite(level):
        lags = np.array([0, len(now.median) - 1])
        name = f"theory: {theory:+.4g} decades a day"
        axes.plot(lags, level + theory * lags, color=THEORY, ls="--", lw=1.6, label=name, zorder=4)
    if span is not None:
        axes.axvline(span, color=SPAN, lw=1.6, label=_answer(span))
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("days back from the last day")
    axes.set_ylabel("gradient flow  |dp/ds|")
    axes.set_xlim(0, max(1, len(now.median) - 1, span or 0) * 1.02)
    _powers(axes)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7, loc="best")
    return figure


def heatmap_figure(title: str, course: Mapping[int, Tensor], span: int | None) -> Figure:
    """The median flow over that of lag 0, by training step and days back, with the 1% line.

    `course` has log10 of the median flow at every lag, (lags,), by training step.
    """
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    steps = list(course)
    medians = torch.stack(list(course.values())).double()
    relative = (medians - medians[:, :1]).numpy().T  # (lags, steps)
    relative = np.where(np.isfinite(relative), relative, np.nan)
    seen = relative[np.isfinite(relative)]
    low = max(-12.0, min(-3.0, seen.min())) if len(seen) else -12.0
    high = min(12.0, max(0.0, seen.max())) if len(seen) else 0.0
    edges = _edges(steps)
    days = np.arange(len(relative) + 1) - 0.5
    mesh = axes.pcolormesh(edges, days, relative, cmap="cividis", vmin=low, vmax=high)
    axes.set_facecolor("#dddddd")  # where the flow is exactly 0, or not known
    reach = [reach_days(median)[0] for median in medians]
    axes.plot(steps, reach, color="white", lw=2.5, clip_on=False)
    label, dots = "reach: 1% of lag 0", {"marker": "o", "ms": 3} if len(steps) < 60 else {}
    axes.plot(steps, reach, color=THEORY, lw=1.4, label=label, clip_on=False, zorder=4, **dots)
    if span is not None:
        axes.axhline(span, color="white", lw=2.5)
        axes.axhline(span, color=SPAN, lw=1.6, label=_answer(span))
    clipped = len(seen) and (seen.min() < low, seen.max() > high)
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}
    bar = figure.colorbar(mesh, ax=axes, extend=extend.get(clipped, "neither"))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(_power))
    bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    bar.set_label("flow over that of lag 0")
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("training step")
    axes.set_ylabel("days back from the last day")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(-0.5, max(len(relative) - 0.5, (span or 0) + 0.5))
    figure.legend(fontsize=8, loc="outside lower center", ncols=2)
    return figure


def _band(axes: Axes, profile: Profile, colour: str, name: str) -> None:
    """A median with its band; what is exactly 0 is left blank."""
    median, low, high = map(_there, (profile.median, profile.p10, profile.p90))
    lags = np.arange(len(median))
    axes.fill_between(lags, low, high, color=colour, alpha=0.25, lw=0)
    axes.plot(lags, median, color=colour, lw=2, marker="o" if len(lags) < 3 else None, label=name)


def _answer(span: int) -> str:
    return f"the answer: {span} day{'' if span == 1 else 's'} back"


def _there(log10: Tensor) -> np.ndarray:
    """The values that can be drawn: finite ones."""
    return log10.double().where(log10.isfinite(), math.nan).numpy()


def _powers(axes: Axes) -> None:
    """Label a y axis of log10 values as powers of ten; never narrower than three decades."""
    low, high = axes.get_ylim()
    middle = (low + high) / 2
    axes.set_ylim(min(low, middle - 1.5), max(high, middle + 1.5))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(_power))


def _power(exponent: float, _: object = None) -> str:
    return f"$10^{{{exponent:g}}}$"


def _edges(steps: Sequence[int]) -> list[float]:
    """Cell borders, half-way between steps; the first and the last step are borders themselves."""
    if len(steps) == 1:
        return [steps[0] - 0.5, steps[0] + 0.5]
    return [steps[0], *((a + b) / 2 for a, b in pairwise(steps)), steps[-1]]


COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")


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
        _powers(axes)
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
