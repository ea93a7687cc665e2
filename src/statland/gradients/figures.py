"""The gradient flow of one run, drawn: its profile by days back, its course through training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from torch import Tensor

from statland.drawing import COLOURS, DECADES, DIVERGING, FONT, finite, label_powers, plain, power
from statland.gradients.flow import Flow
from statland.gradients.probe import WEIGHTS, Probed, leading, profiles_of
from statland.gradients.share import Profile, reach_days

BEFORE, AFTER, THEORY, ANSWER, ADDED = "#999999", "#0072B2", "#D55E00", "#009E73", "#882255"
PARTS = tuple(colour for colour in COLOURS[::-1] if colour not in (AFTER, THEORY, ANSWER, ADDED))
# Small in inches, so that the letters are large in a thumbnail.
WIDTH, HEIGHT, DPI, LETTERS = 4.2, 4.0, 150, 50

# How the reach is marked on its curve; of a heatmap's cells, where there is no flow to show.
REACHED: dict[str, Any] = {"marker": "o", "ms": 6.0, "mfc": "white", "mew": 1.8, "ls": ""}
CELLS: dict[str, Any] = {"aspect": "auto", "origin": "lower", "interpolation": "nearest"}
UNKNOWN, ZERO, LOST = "#d4d4d4", "#8f8f8f", "#4a4a4a"


def profile_figure(
    title: str,
    flow: Flow | Probed,
    before: Flow | Probed | None = None,
    span: int | None = None,
    theory: float | None = None,
    subtitle: str = "",
    diverged: int | None = None,
) -> Figure:
    """Draw the flow against days back, and that before training: medians, bands from p10 to p90.

    It is the flow to the state, with its parts, or to the inputs where the model has no state. What
    each day adds to the recurrent weights is drawn where a probe has it. Marked: the reach, the
    market's span in days, and the line that theory gives, in decades a day. `subtitle` is the
    verdict; `diverged` is the step at which training diverged. savefig("flow.png") writes it.
    """
    figure, axes = _canvas(title, subtitle, diverged)
    now = profiles_of(flow)
    quantity = leading(now)
    if before is not None:
        median = _band(axes, profiles_of(before)[quantity], BEFORE, 4.5, "before training")
    if flow is not before:  # else nothing was trained
        name = "median" if before is None else "after training"
        name = f"after {flow.step} steps" if isinstance(flow, Probed) else name
        median = _band(axes, now[quantity], AFTER, 2.0, name)
    _parts(axes, now)
    if theory is not None and median[0].isfinite():
        lags = np.arange(len(median))
        look: dict[str, Any] = {"color": THEORY, "ls": (0, (4, 3)), "lw": 1.6, "zorder": 4}
        label = f"theory: {theory:+.4g} decades a day"
        axes.plot(lags, median[0].item() + theory * lags, label=label, **look)
    if span is not None:
        axes.axvline(span, color=ANSWER, lw=1.6, ls="-.", label=_answer(span))
    axes.plot([], [], color="black", **REACHED, label="reach: 1% of lag 0")
    axes.set_xlabel("days back from the last day", fontsize=FONT)
    axes.set_ylabel(f"gradient flow  |dp/d{'s' if quantity == 'state' else 'x'}|", fontsize=FONT)
    longest = max(1, len(median) - 1, span or 0)
    axes.set_xlim(-0.01 * longest, 1.03 * longest)
    label_powers(axes)
    axes.grid(alpha=0.25)
    _legend(figure, axes)
    return figure


def heatmap_figure(
    title: str,
    course: Mapping[int, Tensor],
    span: int | None,
    subtitle: str = "",
    diverged: int | None = None,
) -> Figure:
    """Draw the median flow over that of lag 0, by training step and days back, with the reach.

    `course` has log10 of the median flow at every lag, (lags,), by training step. Each probe is a
    column, and all are equally wide: so early probes, close together, show as well as later ones.
    """
    figure, axes = _canvas(title, subtitle, diverged)
    steps, medians = list(course), torch.stack(list(course.values())).double()
    relative = (medians - medians[:, :1]).nan_to_num(nan=torch.nan, posinf=2 * DECADES)
    relative = relative.where(medians.isfinite(), torch.nan).T  # (lags, steps)
    scale: dict[str, Any] = {"cmap": DIVERGING, "vmin": -DECADES, "vmax": DECADES}
    image = axes.imshow(relative.numpy(), **CELLS, **scale)
    grey = _greys(axes, medians)
    reach = [np.nan if (days := reach_days(m)[0]) is None else days for m in medians]
    edges = np.arange(len(steps) + 1) - 0.5
    axes.stairs(reach, edges, baseline=None, color="white", lw=3.4, zorder=3)
    line: dict[str, Any] = {"color": "black", "lw": 1.4, "label": "reach: 1% of lag 0"}
    axes.stairs(reach, edges, baseline=None, zorder=5, **line)
    if span is not None:
        # Thick, and below the reach: where that is on it, both show.
        axes.axhline(span, color=ANSWER, lw=4.2, label=_answer(span), zorder=4)
    bar = figure.colorbar(image, ax=axes, extend="both", ticks=range(-DECADES, DECADES + 1, 4))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(power))
    bar.ax.tick_params(labelsize=FONT)
    bar.set_label("relative to the last day:\nblue vanishes, red explodes", fontsize=FONT)
    _label_steps(axes, steps)
    axes.set_ylabel("days back from the last day", fontsize=FONT)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    top = max(len(relative) - 0.5, (span or 0) + 0.5)
    axes.set_ylim(-0.5, top + 0.05 * (top + 0.5))
    _legend(figure, axes, grey)
    return figure


def _canvas(title: str, subtitle: str, diverged: int | None) -> tuple[Figure, Axes]:
    """A small figure with the run's name above and, below it, what is to be said of the run."""
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(labelsize=FONT)
    figure.suptitle(plain(title, LETTERS), fontsize=FONT + 1, fontweight="bold")
    ended = [] if diverged is None else [f"diverged at step {diverged}"]
    axes.set_title(plain("; ".join(filter(None, [subtitle, *ended])), LETTERS), fontsize=FONT)
    return figure, axes


def _band(axes: Axes, profile: Profile, colour: str, width: float, name: str) -> Tensor:
    """Draw a median, which is returned, with its band; crosses where it is exactly 0; the reach."""
    median, days = profile.median, len(profile.median)
    # A band that goes down to exact zeros is drawn down to the smallest flow.
    seen = torch.stack(profile[:3])
    foot = seen[seen.isfinite()].min().item() if seen.isfinite().any() else np.nan
    low = np.where(profile.p10.numpy() == -np.inf, foot, finite(profile.p10))
    axes.fill_between(np.arange(days), low, finite(profile.p90), color=colour, alpha=0.25, lw=0)
    reach, is_bounded = reach_days(median)
    label = "0 at lag 0" if reach is None else f"reach {reach}{'' if is_bounded else '+'}"
    label = "every state is nan" if median.isnan().all() else label
    look: dict[str, Any] = {"lw": width, "marker": "o" if days < 3 else None}
    axes.plot(finite(median), color=colour, label=f"{name}: {label}", **look)
    if reach is not None:
        axes.plot([reach], [median[reach].item()], color=colour, **REACHED, zorder=5)
    zeros = np.flatnonzero(median.numpy() == -np.inf)
    if len(zeros):
        label = f"exactly 0 on {len(zeros)} of {days} days"
        look = {"transform": axes.get_xaxis_transform(), "clip_on": False, "marker": "x", "ms": 4}
        axes.plot(zeros, 0 * zeros, color=colour, ls="", label=label, **look)
    return median


def _parts(axes: Axes, profiles: Mapping[str, Profile]) -> None:
    """The flow through each part of the state, and what each day adds to the weights."""
    medians = {name: finite(profile.median) for name, profile in profiles.items()}
    names = [
        n for n in medians if n not in ("state", "x", WEIGHTS) and np.isfinite(medians[n]).any()
    ]
    for place, name in enumerate(names):  # markers of no two parts coincide
        style: dict[str, Any] = {"color": PARTS[place % len(PARTS)], "marker": "os^Dv"[place % 5]}
        style |= {"ms": 3.5, "lw": 1.0, "markevery": (place / len(names) * 0.15, 0.15)}
        axes.plot(medians[name], label=f"of it, through {plain(name)}", **style)
    if np.isfinite(medians.get(WEIGHTS, np.nan)).any():
        look: dict[str, Any] = {"color": ADDED, "lw": 1.4, "ls": (0, (6, 1.5, 1, 1.5))}
        look["marker"] = "." if len(medians[WEIGHTS]) < 3 else None
        axes.plot(medians[WEIGHTS], label="|dp/dW|: what a day adds", **look)


def _greys(axes: Axes, medians: Tensor) -> list[Patch]:
    """Grey where there is no flow to show, (steps, lags), and what each grey means."""
    axes.set_facecolor(UNKNOWN)
    zeros, lost = (medians == -torch.inf).T.numpy(), medians.isnan().all(1).numpy()
    patches = [Patch(color=UNKNOWN, label="not measured")]
    if zeros.any():
        axes.imshow(np.ma.masked_equal(zeros, False), cmap=ListedColormap([ZERO]), **CELLS)
        patches.append(Patch(color=ZERO, label="exactly 0"))
    if lost.any():
        for place in np.flatnonzero(lost):
            axes.axvspan(place - 0.5, place + 0.5, color=LOST, lw=0)
        patches.append(Patch(color=LOST, label="every state is nan"))
    return patches


def _label_steps(axes: Axes, steps: Sequence[int]) -> None:
    """Name the columns by their steps, as many as there is room for, the first and last always."""
    room = 26 // (len(str(steps[-1])) + 1)
    places = np.linspace(0, len(steps) - 1, min(len(steps), room)).round().astype(int)
    axes.set_xticks(places, [str(steps[place]) for place in places], fontsize=FONT)
    axes.set_xlabel("training step (one column per probe)", fontsize=FONT)


def _legend(figure: Figure, axes: Axes, more: Sequence[Patch] = ()) -> None:
    """One legend below the axes, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    labels += [str(patch.get_label()) for patch in more]
    look: dict[str, Any] = {"loc": "outside lower center", "ncols": 2, "fontsize": FONT - 0.5}
    look |= {"frameon": False, "columnspacing": 1.0, "handlelength": 1.8, "borderaxespad": 0.2}
    figure.legend([*handles, *more], labels, **look)


def _answer(span: int) -> str:
    return f"the answer: {span} day{'' if span == 1 else 's'} back"
