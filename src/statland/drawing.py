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

# Six colours of Okabe and Ito's, three of Paul Tol's and a brown, which colour-blind readers tell
# apart. Black and grey are left for what is no model: the answer, the 1% line, a baseline.
COLOURS: tuple[str, ...] = ("#E69F00", "#999933", "#0072B2", "#332288", "#6B4C2A")
COLOURS += ("#882255", "#CC79A7", "#D55E00", "#56B4E9", "#009E73")
MARKERS = ("o", "*", "^", "D", "X", "s", "P", "v")

# Any salt would do. With this one each of the ten families has a colour of its own, and so has each
# of their variants.
SALT = 7239768

# Of a flow relative to lag 0: one scale for all runs, in decades either side of 1.
DECADES, DIVERGING = 12, "RdBu_r"

FONT = 8.5  # legible at half the size, as in TensorBoard's thumbnails
DPI = 130  # of pictures with several panels

# Points wide, in turn: of coincident curves the thinner lies on top.
WIDTHS = (3.0, 1.9, 1.0)

NAMED = 2  # figures of so few panels have them large, with names at the ends of curves
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
    """The colour of a model: by its name alone, whatever else is drawn.

    The hue is the family's, which is the name's first word: lstm_chrono is a lighter lstm.
    """
    family = model.partition("_")[0]
    lighter = 0 if family == model else _digest(model)[2] % 3 / 4
    return _shaded(COLOURS[_digest(family)[0] % len(COLOURS)], lighter)


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
    wide = 1.5 if len(names) <= NAMED else 1.0
    size = (2.4 + 2.9 * across * wide, 1.2 + 2.4 * down * wide)
    figure = Figure(size, DPI, layout="constrained")
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
        alpha=0.6 if dashed else 1,
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


def name_ends(
    figure: Figure,
    axes: Axes,
    ends: Mapping[str, tuple[float, float]],
    style: Mapping[str, Style],
) -> None:
    """Write each curve's name to the right of its end (x, y), names apart from each other.

    None is written where they would not all fit, or the figure has many panels, which are small.
    """
    low, high = axes.get_ylim()
    gap = 1.25 * FONT * (high - low) / (0.75 * 72 * figure.get_figheight())  # of that, the axes
    order = sorted(ends, key=lambda name: ends[name][1])
    if len(figure.axes) > NAMED or not order or len(order) * gap > high - low:
        return
    places = np.array([ends[name][1] for name in order])
    above = np.arange(len(places)) * gap
    places = np.maximum.accumulate(places - above) + above  # up, where the one below is too near
    places[-1] = min(places[-1], high)
    places = np.minimum.accumulate((places - above)[::-1])[::-1] + above  # down again from the top
    right, outside = axes.dataLim.x1, axes.get_xlim()[1] + 0.05 * axes.dataLim.x1
    for name, y in zip(order, places, strict=True):
        colour, end = style[name].colour, ends[name]
        line = {"arrowstyle": "-", "color": colour, "lw": 0.5, "relpos": (0, 0.5), "shrinkB": 0}
        at = (outside if end[0] == right else end[0] + 0.05 * right, y)
        look: dict[str, Any] = {"color": colour, "va": "center", "fontsize": FONT - 0.5}
        axes.annotate(plain(name), end, at, arrowprops=line, **look)


def legend_entry(style: Style, line: bool = True) -> Line2D:
    """What stands for a contestant in a legend: its marker, on a line or alone."""
    look: dict[str, Any] = {"color": style.colour, "marker": style.marker}
    look["lw"] = style.width if line else 0
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
