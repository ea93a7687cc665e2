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
from statland.gradients.reach import REACH, Profile, reach_days

BEFORE, AFTER, THEORY, ANSWER = "#999999", "#0072B2", "#D55E00", "#009E73"
TAUGHT = "#882255"
PARTS = tuple(colour for colour in COLOURS if colour not in (AFTER, THEORY, ANSWER, TAUGHT))
# Small in inches, so that the letters are large in a thumbnail.
WIDTH, HEIGHT, DPI, LETTERS = 4.2, 4.0, 150, 50

REACHED: dict[str, Any] = {"marker": "o", "ms": 6.0, "mfc": "white", "mew": 1.8, "ls": ":"}

# Of a heatmap's cells: nothing is known, the flow is exactly 0, training had diverged.
UNKNOWN, ZERO, DIVERGED = "#d4d4d4", "#8f8f8f", "#4a4a4a"


def profile_figure(
    title: str,
    flow: Flow | Probed,
    before: Flow | Probed | None = None,
    span: int | None = None,
    theory: float | None = None,
    subtitle: str = "",
    diverged: int | None = None,
) -> Figure:
    """The flow against days back, and that before training: medians and bands from p10 to p90.

    It is the flow to the state, with its parts, or to the inputs where the model has no state. A
    probe before or after training also shows what each day adds to the recurrent weights.
    Marked: the reach, the market's span in days, and the line that theory gives, in decades a day.
    `subtitle` is the verdict; `diverged` the step at which training diverged. The figure is
    matplotlib's: figure.savefig("flow.png") writes it.
    """
    figure, axes = _canvas(title, subtitle, diverged)
    now = profiles_of(flow)
    quantity = leading(now)
    drawn = []
    if before is not None:
        drawn.append((profiles_of(before)[quantity], BEFORE, 4.5, "before training"))
    if flow is not before:  # else nothing was trained
        name = "median" if before is None else "after training"
        name = f"after {flow.step} steps" if isinstance(flow, Probed) else name
        drawn.append((now[quantity], AFTER, 2.0, name))
    for profile, colour, width, name in drawn:
        _band(axes, profile, colour, width, name)
    _parts(axes, now)
    median = drawn[-1][0].median
    _expected(axes, median, span, theory)
    axes.set_xlabel("days back from the last day", fontsize=FONT)
    axes.set_ylabel(f"gradient flow  |dp/d{'s' if quantity == 'state' else 'x'}|", fontsize=FONT)
    longest = max(1, len(median) - 1, span or 0)
    axes.set_xlim(-0.01 * longest, 1.03 * longest)
    label_powers(axes)
    for profile, colour, _, _ in drawn:
        _guides(axes, profile.median, colour)
    axes.plot([], [], color="black", **REACHED, label="reach: 1% of lag 0")
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
    """The median flow over that of lag 0, by training step and days back, with the reach.

    `course` has log10 of the median flow at every lag, (lags,), by training step. Each probe is a
    column, and all are equally wide: so early probes, close together, show as well as later ones,
    and nothing is drawn for steps that were not probed.
    """
    figure, axes = _canvas(title, subtitle, diverged)
    steps, medians = list(course), torch.stack(list(course.values())).double()
    relative = (medians - medians[:, :1]).nan_to_num(nan=torch.nan, posinf=2 * DECADES)
    relative = relative.where(medians.isfinite(), torch.nan).T  # (lags, steps)
    lags, count = relative.shape
    edges, days = np.arange(count + 1) - 0.5, np.arange(lags + 1) - 0.5
    mesh = axes.pcolormesh(
        edges, days, relative.numpy(), cmap=DIVERGING, vmin=-DECADES, vmax=DECADES
    )
    grey = _greys(axes, medians, diverged)
    _course_of_reach(axes, medians)
    if span is not None:
        # Thick, and below the reach: where that is on it, both show.
        axes.axhline(span, color=ANSWER, lw=4.2, label=_answer(span), zorder=4)
    bar = figure.colorbar(mesh, ax=axes, extend="both", ticks=range(-DECADES, DECADES + 1, 4))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(power))
    bar.ax.tick_params(labelsize=FONT)
    bar.set_label("relative to the last day:\nblue vanishes, red explodes", fontsize=FONT)
    _label_steps(axes, steps)
    axes.set_ylabel("days back from the last day", fontsize=FONT)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    top = max(lags - 0.5, (span or 0) + 0.5)
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


def _band(axes: Axes, profile: Profile, colour: str, width: float, name: str) -> None:
    """A median with its band, and crosses at the foot where the median is exactly 0."""
    median, high = finite(profile.median), finite(profile.p90)
    # A band that goes down to exact zeros is drawn down to the smallest flow.
    seen = torch.stack(profile[:3])
    foot = seen[seen.isfinite()].min().item() if seen.isfinite().any() else np.nan
    low = np.where(profile.p10.numpy() == -np.inf, foot, finite(profile.p10))
    lags = np.arange(len(median))
    axes.fill_between(lags, low, high, color=colour, alpha=0.25, lw=0)
    dots = "o" if len(lags) < 3 else None
    label = f"{name}: {_reach(profile.median)}"
    axes.plot(lags, median, color=colour, lw=width, marker=dots, label=label)
    zeros = np.flatnonzero(profile.median.numpy() == -np.inf)
    if len(zeros):
        label = f"exactly 0 on {len(zeros)} of {len(lags)} days"
        at_foot: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.plot(zeros, 0 * zeros, color=colour, marker="x", ms=4, ls="", label=label, **at_foot)


def _parts(axes: Axes, profiles: Mapping[str, Profile]) -> None:
    """The flow through each part of the state, its markers apart from the other parts'.

    And, where it was measured, what each day adds to the weights.
    """
    parts = [name for name in profiles if name not in ("state", "x", WEIGHTS)]
    for place, name in enumerate(parts):
        every = (place / len(parts) * 0.15, 0.15)
        style: dict[str, Any] = {
            "color": PARTS[place % len(PARTS)],
            "marker": "os^Dv"[place % 5],
            "ms": 3.5,
        }
        median = finite(profiles[name].median)
        if not np.isfinite(median).any():
            continue
        axes.plot(median, lw=1.0, markevery=every, label=f"of it, through {plain(name)}", **style)
    added = finite(profiles[WEIGHTS].median) if WEIGHTS in profiles else np.array([])
    if np.isfinite(added).any():
        look: dict[str, Any] = {"color": TAUGHT, "lw": 1.4, "ls": (0, (6, 1.5, 1, 1.5))}
        look["marker"] = "." if len(added) < 3 else None
        axes.plot(added, label="|dp/dW|: what a day adds", **look)


def _expected(axes: Axes, median: Tensor, span: int | None, theory: float | None) -> None:
    """The line that theory gives, and the days back to the answer, as far as they are known."""
    if theory is not None and median[0].isfinite():
        lags = np.array([0, len(median) - 1])
        line, label = median[0].item() + theory * lags, f"theory: {theory:+.4g} decades a day"
        axes.plot(lags, line, color=THEORY, ls=(0, (4, 3)), lw=1.6, label=label, zorder=4)
    if span is not None:
        axes.axvline(span, color=ANSWER, lw=1.6, ls="-.", label=_answer(span))


def _guides(axes: Axes, median: Tensor, colour: str) -> None:
    """From 1% of lag 0 to the curve, and from there down to the reach in days."""
    reach, is_bounded = reach_days(median)
    if reach is None:
        return
    level, foot = median[0].item() + np.log10(REACH), axes.get_ylim()[0]
    if is_bounded:
        axes.plot([0, reach, reach], [level, level, foot], color=colour, lw=1.2, ls=":")
    end = median[reach].item()
    axes.plot([reach], [end], color=colour, **REACHED, zorder=5)


def _reach(median: Tensor) -> str:
    """How far the gradient reaches, in few words."""
    if median.isnan().all():
        return "every state is nan"
    reach, is_bounded = reach_days(median)
    return "0 at lag 0" if reach is None else f"reach {reach}{'' if is_bounded else '+'}"


def _course_of_reach(axes: Axes, medians: Tensor) -> None:
    """The reach of each probe, (steps, lags), as a stepped line, broken where there is none."""
    edges = np.arange(len(medians) + 1) - 0.5
    reach = [np.nan if (days := reach_days(m)[0]) is None else days for m in medians]
    axes.stairs(reach, edges, baseline=None, color="white", lw=3.4, zorder=3)
    label = "reach: 1% of lag 0"
    axes.stairs(reach, edges, baseline=None, color="black", lw=1.4, zorder=5, label=label)


def _greys(axes: Axes, medians: Tensor, diverged: int | None) -> list[Patch]:
    """Grey where there is no flow to show, (steps, lags), and what each grey means."""
    axes.set_facecolor(UNKNOWN)
    patches = [Patch(color=UNKNOWN, label="not measured")]
    zeros = np.ma.masked_equal((medians == -torch.inf).T.numpy(), False)
    if zeros.any():
        edges = [np.arange(size + 1) - 0.5 for size in zeros.shape]
        axes.pcolormesh(edges[1], edges[0], zeros, cmap=ListedColormap([ZERO]))
        patches.append(Patch(color=ZERO, label="exactly 0"))
    lost, label = medians.isnan().all(1).nonzero().flatten().tolist(), "every state is nan"
    for place in lost:
        axes.axvspan(place - 0.5, place + 0.5, color=DIVERGED, lw=0)
    if diverged is not None:  # behind the last probe
        end, label = len(medians) - 0.5, f"diverged at step {diverged}"
        axes.set_xlim(-0.5, end + max(0.5, 0.05 * len(medians)))
        axes.axvspan(end, 2 * end + 1, color=DIVERGED, lw=0)
    return [
        *patches,
        *([Patch(color=DIVERGED, label=label)] if lost or diverged is not None else []),
    ]


def _label_steps(axes: Axes, steps: Sequence[int]) -> None:
    """Name the columns by their steps, as many as there is room for, the first and last always."""
    room = 26 // (len(str(steps[-1])) + 1)
    places = np.linspace(0, len(steps) - 1, min(len(steps), room)).round().astype(int)
    axes.set_xticks(places, [str(steps[place]) for place in places], fontsize=FONT)
    axes.set_xlabel("training step (one column a probe)", fontsize=FONT)
    if len(steps) < 30:
        edges = np.arange(1, len(steps)) - 0.5
        low, high = axes.get_ylim()
        axes.vlines(edges, low, high, color="white", lw=0.5)


def _legend(figure: Figure, axes: Axes, more: Sequence[Patch] = ()) -> None:
    """One legend below the axes, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    labels += [str(patch.get_label()) for patch in more]
    figure.legend(
        [*handles, *more], labels, fontsize=FONT - 0.5, loc="outside lower center", ncols=2,
        frameon=False, columnspacing=1.0, handlelength=1.8, borderaxespad=0.2,
    )  # fmt: skip


def _answer(span: int) -> str:
    return f"the answer: {span} day{'' if span == 1 else 's'} back"
