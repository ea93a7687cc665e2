"""The even share: how much of the gradient a day gets, against what it would get if all got alike.

B companies, T days. Flows are log10 of the flow to the inputs by lag, (B, T): nan where a company
is younger or lost, -inf for an exact 0. All is computed in logarithms: flows may span hundreds of
decades.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from statland.gradients.flow import Flow, by_lag
from statland.gradients.norms import log10_norm, log10_sum

# A day that gets less than this of an even share gets next to nothing.
LITTLE = 0.01

# Lags 0 to reach_days hold so much of the flow; the small term keeps rounding out.
REACHED = 0.99 - 1e-9


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


def even_shares(log10: Tensor) -> Tensor:
    """Return log10 of each flow against an even share, e = T f / (sum over T days of f): (..., T).

    -inf for an exact 0, and nan where there is no flow; T does not count those days.
    """
    is_known = ~log10.isnan()
    total = log10_sum(log10.where(is_known, -math.inf))[..., None]
    even = total - is_known.sum(-1, keepdim=True).double().log10()
    return (log10 - even).where(total.isfinite(), log10)


def shares(log10: Tensor) -> Tensor:
    """Return the part of a company's flow that each lag gets (B, T), 0 where there is none."""
    days = (~log10.isnan()).sum(1, keepdim=True)
    return (10 ** even_shares(log10) / days).nan_to_num(0)


def word(log10: Tensor) -> str | None:
    """Return vanishes, explodes or holds; None if it is not known.

    By the arithmetic mean of even shares over the companies that are not lost: *vanishes* if the
    first day's is below 0.01, which is tested first, *explodes* if the last day's is, else *holds*.
    With one day, or all companies lost, None.
    """
    ages = (~log10.isnan()).sum(1)
    known = ages > 0
    if not known.any() or int(ages.max()) == 1:
        return None
    even = 10 ** even_shares(log10[known])
    first = even.gather(1, ages[known, None] - 1).mean().item()
    last = even[:, 0].mean().item()
    return "vanishes" if first < LITTLE else "explodes" if last < LITTLE else "holds"


def reach_days(log10: Tensor) -> int | None:
    """Return the smallest R such that lags 0 to R hold 99% of the flow; None if all is 0 or lost.

    Each company's flow is divided by its sum over days, and averaged over companies by lag.
    """
    part = shares(log10)
    part = part[part.sum(1) > 0]
    if not len(part):
        return None
    return int((part.mean(0).cumsum(0) < REACHED).sum().clamp(max=part.shape[1] - 1))


def answer_share(log10: Tensor, answer: Tensor) -> float:
    """Return log10 of what the answer gets of the gradient, over what an even gradient gives it.

    `answer` (B, T) marks by lag the days that a company's answer needs: the weakest of them counts.
    s_b is its flow over sqrt(sum over all days of f_b^2), and 1 / sqrt(T_b) that of an even
    gradient; each as the root mean square over companies. 0: an even share. -19: 10^-19 of it.
    -inf: exactly 0. nan if no company has an answer, or all have one day.
    """
    ages = (~log10.isnan()).sum(1)
    known = (ages > 0) & answer.any(1)
    if not known.any() or int(ages[known].max()) == 1:
        return math.nan
    log10, answer, ages = log10[known], answer[known], ages[known]
    weakest = log10.where(answer, math.inf).amin(1)
    total = log10_norm(log10.where(~log10.isnan(), -math.inf))
    share = (weakest - total).where(weakest > -math.inf, -math.inf)
    even = -ages.double().log10() / 2
    return (log10_norm(share) - log10_norm(even)).item()


def share(flow: Flow | Tensor, answer: Tensor) -> float:
    """Return answer_share of a flow, or of its log10 by lag, for an `answer` (B, T) by day."""
    log10 = flow.log10["x"] if isinstance(flow, Flow) else flow
    known = ~log10.isnan()
    ages = (known * torch.arange(1, known.shape[1] + 1)).amax(1)
    return answer_share(log10, by_lag(answer.cpu().double(), ages, ages == 0) == 1)


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


def first_to_last(log10: Tensor) -> float:
    """Median over companies (B, T) of the log10 flow on the first day less that on the last."""
    ages = (~log10.isnan()).sum(1)
    old = log10[ages > 0]
    if not len(old):
        return math.nan
    first = old.gather(1, ages[ages > 0, None] - 1).squeeze(1)
    return (first - old[:, 0]).nanquantile(0.5, interpolation="lower").item()
