"""What all figures share: colours that belong to models, panels, axes labelled as powers of ten.

Values span hundreds of decades, so axes hold log10. No pyplot: there is no global state.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import cycle
from textwrap import fill
from typing import Any, NamedTuple

import matplotlib.figure
import numpy as np
from matplotlib import colormaps, style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colorbar import Colorbar
from matplotlib.colors import BoundaryNorm, ListedColormap, to_hex, to_rgb
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from torch import Tensor

# By family, the longest of these that a model's name begins with; else what stands before its first
# _. Six are Okabe and Ito's, four Paul Tol's, for colour-blind readers. Black and grey are left for
# what is no model.
FAMILIES = {
    "rnn": "#D55E00",
    "rnn_cell": "#D55E00",  # nn.RNN written by hand
    "irnn": "#882255",
    "lstm": "#0072B2",
    "gru": "#009E73",
    "exprnn": "#332288",
    "mingru": "#56B4E9",
    "lru": "#999933",
    "gated_deltanet": "#CC79A7",
    "deltaproduct": "#AA4499",
    "tcn": "#6B4C2A",
    "transformer": "#E69F00",
}
COLOURS = tuple(dict.fromkeys(FAMILIES.values()))
MARKERS = ("o", "^", "D", "X", "s", "P", "v", "*")
WIDTHS = (3.0, 1.9, 1.0)  # points, in turn: of coincident curves the thinner lies on top

# Of log10 of a day's gradient against an even share, one scale for all runs: the days that get most
# are dark.
LEVELS = (-50, -20, -10, -5, -2, -1, math.log10(0.5))
EVEN_SHARES: dict[str, Any] = {
    "cmap": ListedColormap(colormaps["magma_r"](np.linspace(0.02, 0.9, len(LEVELS) + 1))),
    "norm": BoundaryNorm([-1e9, *LEVELS, 1e9], len(LEVELS) + 1),
}

UNKNOWN = "#d4d4d4"  # of cells for which nothing was measured

FONT = 8.5  # legible at half the size, as in TensorBoard's thumbnails
RAISED = str.maketrans("-.0123456789", "⁻·⁰¹²³⁴⁵⁶⁷⁸⁹")


# Around what draws: no matplotlibrc changes a figure.
own_settings = partial(style.context, "default")


class Figure(matplotlib.figure.Figure):
    """A figure that is saved with matplotlib's default settings."""

    savefig = own_settings()(matplotlib.figure.Figure.savefig)


class Style(NamedTuple):
    """How a contestant is drawn in every panel: coincident curves differ in width and markers."""

    colour: str
    marker: str
    width: float  # points
    start: float  # of its markers along a curve, as a share of the panel's diagonal


def styles(models: Mapping[str, str]) -> dict[str, Style]:
    """The style of each contestant, given the model that each of them is.

    A hue belongs to a family, whatever else is drawn. Families that have none take, in their order,
    those that are free. A variant (lstm_chrono) is lighter, and contestants that would have the
    same colour differ in lightness.
    """
    families = {model: family_of(model) for model in models.values()}
    free = [c for c in COLOURS if c not in map(FAMILIES.get, families.values())] or COLOURS
    unknown = [family for family in dict.fromkeys(families.values()) if family not in FAMILIES]
    hues = FAMILIES | dict(zip(unknown, cycle(free), strict=False))
    colours = [_shaded(hues[families[m]], 0.5 * (m != families[m])) for m in models.values()]
    count, seen, found = Counter(colours), Counter[str](), {}
    for place, (contestant, colour) in enumerate(zip(models, colours, strict=True)):
        shade = 0.6 * seen[colour] / max(1, count[colour] - 1)
        seen[colour] += 1
        marker, width = MARKERS[place % len(MARKERS)], WIDTHS[place % len(WIDTHS)]
        found[contestant] = Style(_shaded(colour, shade), marker, width, 0.3 * place / len(models))
    return found


def family_of(model: str) -> str:
    """The family that a model belongs to."""
    own = [family for family in FAMILIES if model.startswith(family)]
    return max(own, key=len, default=model.partition("_")[0])


def panels_of(names: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """One titled panel per name; four side by side, of more than twelve five."""
    across = min(4 if len(names) <= 12 else 5, len(names))
    down = math.ceil(len(names) / across)
    wide = 1.5 if len(names) <= 2 else 1.0
    size = 2.4 + 2.9 * across * wide, 1.2 + 2.4 * down * wide
    figure = Figure(size, dpi=130, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).flatten().tolist()
    for axes in grid[len(names) :]:
        axes.remove()
    for axes, name in zip(grid, names, strict=False):
        axes.set_title(plain(name, 36), fontsize=FONT + 1)
        axes.grid(alpha=0.25)
    return figure, grid[: len(names)]


def stacked_panels(heights: Sequence[float], across: int) -> tuple[Figure, np.ndarray]:
    """Rows of panels of these heights, in strips of a quarter of an inch, so many side by side."""
    size = 3.4 + 3.4 * across, 1.2 + 0.27 * sum(heights) + 0.85 * len(heights)
    figure = Figure(size, dpi=130, layout="constrained")
    grid: Any = {"height_ratios": heights}
    return figure, figure.subplots(len(heights), across, squeeze=False, gridspec_kw=grid)


def draw_strips(axes: Axes, strips: Mapping[str, Tensor], days: int) -> QuadMesh:
    """Draw log10 of even shares by lag, (lags,) each, by name; an exact 0 is drawn, nan is not."""
    rows = np.full((len(strips), days), np.nan)
    for row, strip in zip(rows, strips.values(), strict=True):
        row[days - len(strip) :] = strip.flip(0).clamp(min=-1e8)
    edges = np.arange(days + 1) - 0.5, np.arange(len(strips) + 1) - 0.5
    mesh = axes.pcolormesh(*edges, rows, **EVEN_SHARES)
    axes.hlines(edges[1], *edges[0][[0, -1]], color="white", lw=3)
    axes.set_facecolor(UNKNOWN)
    axes.invert_yaxis()
    axes.set_yticks(range(len(strips)), [plain(name) for name in strips])
    axes.tick_params(labelsize=FONT, left=False)
    axes.spines[:].set_visible(False)
    return mesh


def curve(
    axes: Axes, x: np.ndarray, y: np.ndarray, style: Style, name: str, dashed: bool = False
) -> None:
    """Draw a curve that still shows where others coincide with it.

    Its markers lie above all curves and begin where no other's do. Dashed, they are open.
    """
    look: dict[str, Any] = {"ls": (0, (2.4, 1.2)), "alpha": 0.6} if dashed else {}
    look["zorder"] = 2.5 - 0.1 * style.width  # the thinnest on top
    axes.plot(x, y, color=style.colour, lw=style.width, label=plain(name), **look)
    look = {"mfc": "white", "mew": 0.9} if dashed else {"mec": "white", "mew": 0.5}
    if np.isfinite(y).any():  # else matplotlib cannot space markers
        look["markevery"] = style.start, 0.3
    axes.plot(x, y, color=style.colour, marker=style.marker, ms=5.5, ls="", zorder=2.8, **look)


def legend_of(styles: Mapping[str, Style], line: bool = True) -> dict[str, Artist]:
    """What stands for each contestant in a legend: its marker, on a line or alone."""
    look: dict[str, Any] = {"mec": "white"} if line else {"ls": ""}
    return {
        name: Line2D([], [], color=s.colour, marker=s.marker, lw=s.width, ms=6, mew=0.5, **look)
        for name, s in styles.items()
    }


def finish(figure: Figure, drawn: Mapping[str, Artist], x: str, y: str) -> Figure:
    """Name the axes once, and give one legend for all panels."""
    for axes in figure.axes:
        axes.tick_params(which="both", labelsize=FONT)
    figure.supxlabel(plain(x), fontsize=FONT + 1)
    figure.supylabel(plain(y), fontsize=FONT + 1)
    look: dict[str, Any] = {"loc": "outside right upper", "fontsize": FONT, "frameon": False}
    look["ncols"] = math.ceil(len(drawn) / max(8, figure.get_figheight() * 36 / FONT))
    figure.legend(list(drawn.values()), [plain(name) for name in drawn], handlelength=2.6, **look)
    return figure


def finite(log10: Tensor) -> np.ndarray:
    """The values that can be drawn: finite ones."""
    return log10.double().where(log10.isfinite(), math.nan).numpy()


def label_powers(*panels: Axes) -> None:
    """Label y axes of log10 values as powers of ten, three decades at least.

    They have one scale, unless that would flatten one of them to less than a quarter.
    """
    limits = np.array([axes.get_ylim() for axes in panels])
    limits += (3 - np.ptp(limits, axis=1, keepdims=True)).clip(min=0) * (-0.5, 0.5)
    if 4 * np.ptp(limits, axis=1).min() > np.ptp(limits):
        limits[:] = limits.min(), limits.max()
    for axes, ends in zip(panels, limits, strict=True):
        axes.set_ylim(*ends)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(power)


def label_even_shares(bar: Colorbar) -> None:
    """Label the colour bar of EVEN_SHARES."""
    bar.set_ticks(LEVELS, labels=[*map(power, LEVELS[:4]), "1%", "10%", "half"])
    bar.ax.tick_params(labelsize=FONT)
    bar.set_label("gradient at a day, of an even share", fontsize=FONT)


def power(exponent: float, _: object = None) -> str:
    """A tick label: ten to this power. A formula would take matplotlib's parser 10 ms each."""
    return "10" + f"{exponent:g}".translate(RAISED)


def plain(text: str, width: int | None = None) -> str:
    """Text in which no dollar sign starts a formula, wrapped to `width` letters."""
    return (fill(text, width) if width else text).replace("$", r"\$")


def _shaded(colour: str, share: float) -> str:
    """Return a dark colour so much nearer to white, or a light one to black."""
    rgb = np.array(to_rgb(colour))
    towards = float(rgb @ (0.299, 0.587, 0.114) < 0.55)
    return to_hex(tuple(rgb + share * (towards - rgb)))
