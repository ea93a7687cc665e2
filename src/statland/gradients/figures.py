"""The gradient flow of one run, drawn: its profile by days back, its course through training."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from torch import Tensor

from statland.drawing import finite, label_powers, power
from statland.gradients.flow import REACH, Profile, reach_days
from statland.gradients.probe import Probed

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
            median = finite(after.profiles[part].median)
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
    label_powers(axes)
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
    bar.ax.yaxis.set_major_formatter(FuncFormatter(power))
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
    median, low, high = map(finite, (profile.median, profile.p10, profile.p90))
    lags = np.arange(len(median))
    axes.fill_between(lags, low, high, color=colour, alpha=0.25, lw=0)
    axes.plot(lags, median, color=colour, lw=2, marker="o" if len(lags) < 3 else None, label=name)


def _answer(span: int) -> str:
    return f"the answer: {span} day{'' if span == 1 else 's'} back"


def _edges(steps: Sequence[int]) -> list[float]:
    """Cell borders, half-way between steps; the first and the last step are borders themselves."""
    if len(steps) == 1:
        return [steps[0] - 0.5, steps[0] + 0.5]
    return [steps[0], *((a + b) / 2 for a, b in pairwise(steps)), steps[-1]]
