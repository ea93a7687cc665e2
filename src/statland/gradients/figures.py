"""The gradient flow of one run, drawn: its profile by days back, its course through training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from statland.drawing import (
    COLOURS,
    EVEN_SHARES,
    FONT,
    UNKNOWN,
    Figure,
    draw_strips,
    finite,
    label_even_shares,
    label_powers,
    own_settings,
    plain,
    stacked_panels,
)
from statland.gradients.flow import Flow
from statland.gradients.probe import WEIGHTS
from statland.gradients.share import Profile, even_shares, profile, reach_days

BEFORE, AFTER, THEORY, ANSWER, ADDED = "#999999", "#0072B2", "#D55E00", "#009E73", "#882255"
PARTS = tuple(colour for colour in COLOURS[::-1] if colour not in (AFTER, THEORY, ANSWER, ADDED))
# Small in inches, so that the letters are large in a thumbnail.
WIDTH, HEIGHT, DPI, LETTERS = 4.2, 4.0, 150, 50

# How the reach is marked on its curve; of a heatmap's cells, where there is no flow to show.
REACHED: dict[str, Any] = {"marker": "o", "ms": 6.0, "mfc": "white", "mew": 1.8, "ls": ""}
CELLS: dict[str, Any] = {"aspect": "auto", "origin": "lower", "interpolation": "nearest"}
ZERO, LOST = "#b4c7dc", "#7f8fa6"


@own_settings()
def profile_figure(
    title: str,
    flow: Flow | Mapping[str, Profile],
    before: Flow | Mapping[str, Profile] | None = None,
    *,
    span: int | None = None,
    theory: float | None = None,
    subtitle: str = "",
    name: str = "after training",
    importance: Mapping[str, Mapping[int, float | None]] | None = None,
) -> Figure:
    """Draw the flow to the inputs against days back: the median, and a band from p10 to p90.

    `flow` and `before`, of before training, are flows or the profiles of flows by quantity. Thinner
    lines are the flow to the state and what each day adds to the recurrent weights, if they were
    measured. Marked are the days that hold 99%, the answer's farthest day (`span`), and the line
    that theory gives, in decades a day. Dots are the importance of single days by lag, "before" and
    "after" training, on the right axis. savefig("flow.png") writes the figure.
    """
    figure, axes = _canvas(title, subtitle)
    now = _profiles(flow)
    if before is not None:
        median = _band(axes, _profiles(before)["x"], BEFORE, 4.5, "before training")
    if flow is not before and (before is None or not _equal(now, _profiles(before))):
        median = _band(axes, now["x"], AFTER, 2.0, name if before is not None else "median")
    _others(axes, now)
    if theory is not None and median[0].isfinite():
        lags = np.arange(len(median))
        look: dict[str, Any] = {"color": THEORY, "ls": (0, (4, 3)), "lw": 1.6, "zorder": 4}
        label = f"theory: {round(theory, 6):+.3g} decades a day"  # 1e-7: float32 weights
        axes.plot(lags, median[0].item() + theory * lags, label=label, **look)
    if span is not None:
        axes.axvline(span, color=ANSWER, lw=1.6, ls="-.", label=_answer(span))
    axes.set_xlabel("days back from the last day", fontsize=FONT)
    axes.set_ylabel("gradient flow  |dp/dx|", fontsize=FONT)
    longest = max(1, len(median) - 1, span or 0)
    axes.set_xlim(-0.01 * longest, 1.03 * longest)
    label_powers(axes)
    axes.grid(alpha=0.25)
    _dots(axes, importance or {})
    _legend(figure, axes)
    return figure


@own_settings()
def heatmap_figure(
    title: str, course: Mapping[int, Tensor], span: int | None, subtitle: str = ""
) -> Figure:
    """Draw the median flow against an even share of it, by training step and days back.

    `course` has log10 of the median flow at every lag, (lags,), by training step. Each probe is a
    column, and all are equally wide: so early probes, close together, show as well as later ones.
    """
    figure, axes = _canvas(title, subtitle)
    steps, medians = list(course), torch.stack(list(course.values())).double()
    relative = even_shares(medians).where(medians.isfinite(), torch.nan).T  # (lags, steps)
    image = axes.imshow(relative.numpy(), **CELLS, **EVEN_SHARES)
    grey = _greys(axes, medians)
    reach = [np.nan if (days := reach_days(m[None])) is None else days for m in medians]
    edges = np.arange(len(steps) + 1) - 0.5
    axes.stairs(reach, edges, baseline=None, color="white", lw=3.4, zorder=3)
    line: dict[str, Any] = {"color": "black", "lw": 1.4, "label": "99% lies below"}
    axes.stairs(reach, edges, baseline=None, zorder=5, **line)
    if span is not None:
        # Thick, and below the reach: where that is on it, both show.
        axes.axhline(span, color=ANSWER, lw=4.2, label=_answer(span), zorder=4)
    label_even_shares(figure.colorbar(image, ax=axes))
    _label_steps(axes, steps)
    axes.set_ylabel("days back from the last day", fontsize=FONT)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    top = max(len(relative) - 0.5, (span or 0) + 0.5)
    axes.set_ylim(-0.5, top + 0.05 * (top + 0.5))
    _legend(figure, axes, grey)
    return figure


def strips_figure(flows: Mapping[str, Flow | Mapping[str, Profile]], title: str = "") -> Figure:
    """Draw a strip per model: each day's gradient against an even share, the last day on the right.

    `flows` holds each model's flow, or its profiles by quantity; drawn is the median by lag.
    """
    figure, ((axes,),) = stacked_panels([len(flows)], 1)
    medians = {name: _profiles(flow)["x"].median for name, flow in flows.items()}
    days = max(map(len, medians.values()))
    strips = {name: even_shares(median) for name, median in medians.items()}
    mesh = draw_strips(axes, strips, days)
    axes.set_xticks([0, days - 1], ["first day", "last day"])
    axes.set_title(plain(title), fontsize=FONT + 1)
    label_even_shares(figure.colorbar(mesh, ax=axes, aspect=30, shrink=min(1, 6 / len(flows))))
    return figure


def _profiles(flow: Flow | Mapping[str, Profile]) -> Mapping[str, Profile]:
    """The profiles of a flow by quantity."""
    if isinstance(flow, Flow):
        return {name: profile(log10) for name, log10 in flow.log10.items()}
    return flow


def _equal(one: Mapping[str, Profile], other: Mapping[str, Profile]) -> bool:
    return torch.equal(one["x"].median.nan_to_num(), other["x"].median.nan_to_num())


def _dots(axes: Axes, importance: Mapping[str, Mapping[int, float | None]]) -> None:
    """The importance of single days, on an axis of its own from 0 on."""
    if not any(by_lag for by_lag in importance.values()):
        return
    right = axes.twinx()
    right.set_ylabel("importance of a day", fontsize=FONT)
    right.tick_params(labelsize=FONT)
    top = 1.0
    looks = {"before": (BEFORE, "white", "o"), "after": (AFTER, AFTER, "D")}
    for when, by_lag in importance.items():
        colour, fill, marker = looks[when]
        known = {lag: value for lag, value in by_lag.items() if value is not None}
        top = max(top, *known.values(), 0.0)
        look: dict[str, Any] = {"color": colour, "mfc": fill, "marker": marker, "ms": 5, "ls": ""}
        right.plot(list(known), list(known.values()), clip_on=False, zorder=6, **look)
        axes.plot([], [], label=f"importance {when}", **look)
    right.set_ylim(0, 1.05 * top)


def _canvas(title: str, subtitle: str) -> tuple[Figure, Axes]:
    """A small figure with the run's name above and, below it, a sentence about the run."""
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(labelsize=FONT)
    figure.suptitle(plain(title, LETTERS), fontsize=FONT + 1, fontweight="bold")
    axes.set_title(plain(subtitle, LETTERS), fontsize=FONT)
    return figure, axes


def _band(axes: Axes, profile: Profile, colour: str, width: float, name: str) -> Tensor:
    """Draw a median, which is returned, with its band; crosses where it is exactly 0; the reach."""
    median, days = profile.median, len(profile.median)
    # A band that goes down to exact zeros is drawn down to the smallest flow.
    seen = torch.stack(profile[:3])
    foot = seen[seen.isfinite()].min().item() if seen.isfinite().any() else np.nan
    low = np.where(profile.p10.numpy() == -np.inf, foot, finite(profile.p10))
    axes.fill_between(np.arange(days), low, finite(profile.p90), color=colour, alpha=0.25, lw=0)
    reach = reach_days(median[None])
    label = "0 on every day" if reach is None else f"99% from {reach + 1} day{'s' * (reach > 0)}"
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


def _others(axes: Axes, profiles: Mapping[str, Profile]) -> None:
    """The flow to the state, or to each of its parts, and what each day adds to the weights."""
    medians = {name: finite(profile.median) for name, profile in profiles.items()}
    parts = [n for n in medians if n not in ("state", "x", WEIGHTS)] or ["state"]
    names = [n for n in parts if np.isfinite(medians.get(n, np.nan)).any()]
    for place, name in enumerate(names):  # markers of no two parts coincide
        style: dict[str, Any] = {"color": PARTS[place % len(PARTS)], "marker": "os^Dv"[place % 5]}
        style |= {"ms": 3.5, "lw": 1.0, "markevery": (place / len(names) * 0.15, 0.15)}
        axes.plot(medians[name], label=f"|dp/d{plain(name)}|", **style)
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
    look: dict[str, Any] = {"loc": "outside lower center", "ncols": 2, "fontsize": FONT - 1}
    look |= {"frameon": False, "columnspacing": 0.3, "handlelength": 1.5, "borderaxespad": 0.2}
    look |= {"handletextpad": 0.4, "borderpad": 0}  # its longest texts just fit
    figure.legend([*handles, *more], labels, **look)


def _answer(span: int) -> str:
    return f"the answer: {span} day{'' if span == 1 else 's'} back"
