"""A batch's gradient flow summed up: medians by lag, the slope, how far it reaches.

B companies, T days. All flows are log10: nan where a company is younger, -inf for an exact 0.
"""

import math
from typing import NamedTuple

from torch import Tensor

# Reach: the flow is still this much of lag 0.
REACH = 0.01


class Profile(NamedTuple):
    """The flow at each lag over companies: order statistics of log10, -inf counting as smallest."""

    median: Tensor  # (T,)
    p10: Tensor  # (T,)
    p90: Tensor  # (T,)
    companies: Tensor  # (T,) how many are old enough
    exact_zeros: Tensor  # (T,) how many of them have a flow of exactly 0


def profile(log10: Tensor) -> Profile:
    """Summarise companies' flows (B, T) at each lag; those with nan there are left out."""
    sizes = (~log10.isnan()).sum(0)
    ordered = log10.sort(0).values  # nan, whatever its sign, comes last

    def quantile(q: float) -> Tensor:
        # The smallest value that at least a share q of the companies do not exceed.
        place = ((q * sizes).ceil().long() - 1).clamp(min=0)
        return ordered.gather(0, place[None]).squeeze(0).where(sizes > 0, math.nan)

    zeros = (log10 == -math.inf).sum(0)
    return Profile(quantile(0.5), quantile(0.1), quantile(0.9), sizes, zeros)


def middle(values: Tensor) -> float:
    """The median of values (N,), the mean of the two in the middle; nan where there is none.

    -inf where one of the two is, though the step between them is not finite.
    """
    if not len(values):
        return math.nan
    low, high = (values.quantile(0.5, interpolation=way) for way in ("lower", "higher"))
    return ((low + high) / 2).item()


def decay_per_day(median: Tensor) -> float:
    """Slope of the median log10 flow (T,) against lag, in decades a day; nan below two points.

    log10|w| for a linear scalar recurrence of weight w. By least squares over the lags with a
    finite value.
    """
    lags = median.isfinite().nonzero().squeeze(1)
    if len(lags) < 2:
        return math.nan
    x, y = lags.double() - lags.double().mean(), median[lags].double()
    return ((x * y).sum() / x.square().sum()).item()


def reach_days(median: Tensor) -> tuple[int | None, bool]:
    """The largest lag at which the median flow is at least 1% of lag 0, and whether it is bounded.

    Where the flow never falls that low it is the longest lag measured, and not bounded. None where
    the flow is 0 at lag 0.
    """
    median = median[~median.isnan()]
    if not len(median) or not median[0].isfinite():
        return None, True
    # A billionth of a decade of rounding does not cost a day.
    within = median >= median[0] + math.log10(REACH) - 1e-9
    reach = int(within.nonzero().max())
    return reach, reach < len(median) - 1


def first_to_last(log10: Tensor) -> float:
    """Median over companies (B, T) of the log10 flow on the first day less that on the last."""
    ages = (~log10.isnan()).sum(1)
    old = log10[ages > 0]
    if not len(old):
        return math.nan
    first = old.gather(1, ages[ages > 0, None] - 1).squeeze(1)
    return (first - old[:, 0]).nanquantile(0.5, interpolation="lower").item()
