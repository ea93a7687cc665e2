"""What all figures share: palette, axes that hold log10 and are labelled as powers of ten.

Values span hundreds of decades, beyond any float. Drawn with matplotlib's objects: no pyplot, no
global state. Colours are of Okabe and Ito's palette and of cividis, which colour-blind readers tell
apart.
"""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from torch import Tensor

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")


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
    """A tick label: ten to this power."""
    return f"$10^{{{exponent:g}}}$"
