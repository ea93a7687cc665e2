"""What all figures share: colours that belong to models, sizes, axes labelled as powers of ten.

Values span hundreds of decades, beyond any float, so axes hold log10. Drawn with matplotlib's
objects: no pyplot, no global state.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from torch import Tensor

# Six colours of Okabe and Ito's and two dark ones of Paul Tol's, which colour-blind readers tell
# apart. Black and grey are left for what is no model: the answer, the 1% line, a baseline.
COLOURS = ("#E69F00", "#009E73", "#56B4E9", "#0072B2", "#CC79A7", "#882255", "#D55E00", "#332288")
MARKERS = ("o", "*", "^", "D", "X", "s", "P", "v")

# Any salt would do. With this one common models have colours of their own: RNNs warm, LSTMs cold.
SALT = 226933

# Of a flow relative to lag 0: one scale for all runs, in decades either side of 1.
DECADES, DIVERGING = 12, "RdBu_r"

# Legible at half the size, as in TensorBoard's thumbnails.
FONT = 8.5

# Of pictures with several panels.
DPI = 130

# Points wide, in turn: of coincident curves the thinner lies on top.
WIDTHS = (3.0, 1.9, 1.0)

RAISED = str.maketrans("-.0123456789", "⁻·⁰¹²³⁴⁵⁶⁷⁸⁹")

# Distance between two markers of a curve, as a share of the panel's diagonal.
SPACING = 0.3


class Style(NamedTuple):
    """How a contestant is drawn in every panel: coincident curves differ in width and markers."""

    colour: str
    marker: str
    width: float  # in points
    start: float  # of its markers along a curve, as a share of the distance between two


def colour_of(model: str) -> str:
    """The colour of a model: by its name alone, whatever else is drawn."""
    return COLOURS[_digest(model)[0] % len(COLOURS)]


def styles(models: Mapping[str, str]) -> dict[str, Style]:
    """The style of each contestant, given the model that each of them is.

    The colour is the model's. Contestants of the same model differ in lightness, and all that share
    a colour in their marker.
    """
    count, seen, taken = Counter(models.values()), Counter[str](), set[tuple[str, str]]()
    found = {}
    for place, (contestant, model) in enumerate(models.items()):
        colour = colour_of(model)
        first = _digest(model)[1]
        order = [MARKERS[(first + k) % len(MARKERS)] for k in range(len(MARKERS))]
        marker = next((m for m in order if (colour, m) not in taken), order[place % len(order)])
        taken.add((colour, marker))
        shade = seen[model] / max(1, count[model] - 1)
        seen[model] += 1
        width, start = WIDTHS[place % len(WIDTHS)], place / len(models)
        found[contestant] = Style(_shaded(colour, 0.6 * shade), marker, width, start)
    return found


def panels_of(names: Mapping[str, object], sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """A panel a name, titled; four side by side, of more than twelve five."""
    across = min(4 if len(names) <= 12 else 5, len(names))
    down = math.ceil(len(names) / across)
    size = (2.4 + 2.9 * across, 1.2 + 2.4 * down)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, sharey=sharey).flatten().tolist()
    for axes in grid[len(names) :]:
        axes.remove()
    for axes, name in zip(grid, names, strict=False):
        axes.set_title(plain(name, 36), fontsize=FONT + 1)
        axes.grid(alpha=0.25)
    return figure, grid[: len(names)]


def curve(
    axes: Axes,
    x: Sequence[float] | np.ndarray,
    y: Sequence[float] | np.ndarray,
    style: Style,
    name: str,
    dashed: bool = False,
) -> None:
    """A curve of which something shows where others coincide with it.

    Its markers lie above all curves, and begin where no other's do. Dashed, they are open.
    """
    axes.plot(
        x,
        y,
        color=style.colour,
        lw=style.width,
        ls=(0, (2.4, 1.2)) if dashed else "-",
        zorder=2.5 - 0.1 * style.width,  # the thinnest on top
        label=plain(name),
    )
    axes.plot(
        x,
        y,
        ls="",
        marker=style.marker,
        ms=5.5,
        color=style.colour,
        mfc="white" if dashed else style.colour,
        mec=style.colour if dashed else "white",
        mew=0.9 if dashed else 0.5,
        # matplotlib can space no markers on a curve of which nothing is known.
        markevery=(SPACING * style.start, SPACING) if np.isfinite(y).any() else None,
        zorder=2.8,
    )


def legend_entry(style: Style, line: bool = True) -> Line2D:
    """What stands for a contestant in a legend: its marker, on a line or alone."""
    look: dict[str, Any] = {
        "color": style.colour,
        "marker": style.marker,
        "lw": style.width if line else 0,
    }
    return Line2D([], [], ms=6, mec="white" if line else style.colour, mew=0.5, **look)


def finish(
    figure: Figure, drawn: Mapping[str, Artist], models: Mapping[str, str], x: str, y: str
) -> Figure:
    """Name the axes once, and give one legend for all panels: contestants first, in their order."""
    for axes in figure.axes:
        axes.tick_params(which="both", labelsize=FONT)
    figure.supxlabel(x, fontsize=FONT + 1)
    figure.supylabel(y, fontsize=FONT + 1)
    names = [name for name in models if name in drawn]
    names += [name for name in drawn if name not in models]
    rows = max(8, int(figure.get_size_inches()[1] * 72 / (2.0 * FONT)))
    figure.legend(
        [drawn[name] for name in names],
        [plain(name) for name in names],
        fontsize=FONT,
        loc="outside right upper",
        frameon=False,
        ncols=math.ceil(len(names) / rows),
        handlelength=2.6,
    )
    return figure


def side_by_side(values: np.ndarray, width: float) -> np.ndarray:
    """Offsets across that keep positive values apart which are alike on a logarithmic axis.

    Those in a group stand `width` apart, in their order, within 0.45 of the middle.
    """
    heights = np.log10(np.maximum(values, 0.5))
    order = np.argsort(heights, kind="stable")
    offsets = np.zeros(len(values))
    for group in np.split(order, np.flatnonzero(np.diff(heights[order]) > 0.12) + 1):
        apart = min(width, 0.9 / len(group))
        offsets[np.sort(group)] = apart * (np.arange(len(group)) - (len(group) - 1) / 2)
    return offsets


def finite(log10: Tensor) -> np.ndarray:
    """The values that can be drawn: finite ones."""
    return log10.double().where(log10.isfinite(), math.nan).numpy()


def label_powers(axes: Axes) -> None:
    """Label a y axis of log10 values as powers of ten; never narrower than three decades."""
    low, high = axes.get_ylim()
    middle = (low + high) / 2
    axes.set_ylim(min(low, middle - 1.5), max(high, middle + 1.5))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(power))


def power(exponent: float, _: object = None) -> str:
    """A tick label: ten to this power. A formula would take matplotlib's parser 10 ms each."""
    return "10" + f"{exponent:g}".translate(RAISED)


def plain(text: str, width: int | None = None) -> str:
    """Text in which no dollar sign starts a formula, wrapped to `width` letters."""
    if width is not None:
        text = fill(text, width)
    return text.replace("$", r"\$")


def _digest(name: str) -> bytes:
    return hashlib.sha256(f"{SALT}{name}".encode()).digest()


def _shaded(colour: str, share: float) -> str:
    """A dark colour so much nearer to white, or a light one to black."""
    rgb = np.array(to_rgb(colour))
    towards = float(rgb @ (0.299, 0.587, 0.114) < 0.55)
    return to_hex(tuple(rgb + share * (towards - rgb))).upper()
