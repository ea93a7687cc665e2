"""How much of the gradient reaches each day of the past, exactly, at any length.

B companies, T days, F features a day, K outputs, S state size.

For company b with loss l_b and prediction p_b the chain rule is cut at the prediction:
dl_b/ds_t = (dl_b/dp_b)(dp_b/ds_t). The first factor is the *error*, the second the *flow*. The flow
at lag k is ||u dp_b/ds_t||, where u is the unit vector along dl_b/dp_b (1 for a single output), s_t
the state after day t, and k = 0 the company's own last day. So a loss near 0 is not taken for a
vanishing gradient, nor an overflowed loss for an exploded one.

The state of an LSTM is (h, c), each varied without the other: at lag 0, dp/dc is 0.

A trap: on the `output` of a fused nn.RNN or nn.LSTM, with a loss on the last day, `retain_grad()`
gives exactly 0 on every earlier day, because the gradient travels inside the module. That looks
like vanishing and is none.
"""

import copy
import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from statland.models.bare import Bare
from statland.models.base import RecurrentModel

# Days whose graph is built and swept at once. The gradient is rescaled between segments.
SEGMENT = 32

# Below this a float64 norm may be on its way to underflow: the segment is swept again in halves.
TINY = 1e-200

# Reach: the flow is still this much of lag 0.
REACH = 0.01


class Flow(NamedTuple):
    """Log10 of the gradient flow, by lag: nan where a company is younger, -inf for an exact 0."""

    log10: dict[str, Tensor]  # state, its parts (h, c) where it has several, x: each (B, T)
    log10_error: Tensor  # (B,) log10 of ||dl_b/dp_b||; nan where no loss was given
    lost: Tensor  # (B,) True where the state became nan; such a company has nan everywhere


class Profile(NamedTuple):
    """The flow at each lag over companies: order statistics of log10, -inf counting as smallest."""

    median: Tensor  # (T,)
    p10: Tensor  # (T,)
    p90: Tensor  # (T,)
    companies: Tensor  # (T,) how many are old enough
    exact_zeros: Tensor  # (T,) how many of them have a flow of exactly 0


def gradient_flow(
    model: RecurrentModel | nn.RNNBase,
    x: Tensor,
    lengths: Tensor | None = None,
    loss: Callable[[Tensor], Tensor] | None = None,
) -> Flow:
    """Measure the flow of every company of a batch, back to its first day.

    x is (B, T, F), right-padded; lengths (B,), by default T for all. `loss` maps predictions (B, K)
    to losses (B,), not divided by the batch size; for a single output it may be left out. A bare
    nn.RNN, nn.LSTM or nn.GRU predicts its last output, (B, H); x has the layout that it expects,
    so (T, B, F) unless it is batch_first:

        rnn, head = nn.GRU(3, 64, batch_first=True), nn.Linear(64, 1)
        flow = gradient_flow(rnn, x, loss=lambda h: (head(h) - y).square().squeeze(1))
        profile(flow.log10["state"]).median   # log10 of the flow at lag 0, 1, 2, ...

    All is computed on a float64 copy, on the processor: the model, its gradients and the state of
    the random numbers stay as they are. Raises ValueError where several outputs have no loss.
    """
    if isinstance(model, nn.RNNBase):
        x = x if model.batch_first else x.transpose(0, 1)
        model = Bare(model)
    dtype, device = x.dtype, x.device
    model, x = frozen(model), x.detach().to("cpu", torch.float64)
    if lengths is None:
        lengths = torch.full((len(x),), x.shape[1])
    # Oldest first, so that the companies that trade on a day are the first rows of the batch.
    order = lengths.cpu().argsort(descending=True, stable=True)
    x, ages = x[order].transpose(0, 1), lengths.cpu()[order]
    bounds = sorted({*range(0, int(ages[0]), SEGMENT), *ages.tolist()})

    starts, last, lost = _forward(model, x, ages, bounds)
    back = order.argsort()
    seeds, error = _seeds(model, last[back], loss, dtype, device)
    days = _sweep(model, x, ages, bounds, starts, seeds[order], lost)
    by_lag = {name: _by_lag(values, ages, lost)[back] for name, values in days.items()}
    return Flow(by_lag, error, lost[back])


def profile(log10: Tensor) -> Profile:
    """Summarise companies' flows (B, T) at each lag; those with nan there are left out."""
    sizes = (~log10.isnan()).sum(0)
    ordered = log10.nan_to_num(nan=math.inf, neginf=-math.inf).sort(0).values

    def quantile(q: float) -> Tensor:
        # The smallest value that at least a share q of the companies do not exceed.
        place = ((q * sizes).ceil().long() - 1).clamp(min=0)
        return ordered.gather(0, place[None]).squeeze(0).where(sizes > 0, math.nan)

    zeros = (log10 == -math.inf).sum(0)
    return Profile(quantile(0.5), quantile(0.1), quantile(0.9), sizes, zeros)


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


def frozen(model: RecurrentModel) -> RecurrentModel:
    """A float64 copy on the processor, whose parameters ask for no gradient."""
    return copy.deepcopy(model).to("cpu", torch.float64).requires_grad_(False)


def _forward(
    model: RecurrentModel, x: Tensor, ages: Tensor, bounds: list[int]
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Step x (T, B, F) once: the state at each segment's start, each last state, who is lost."""
    state = model.initial_state(len(ages))
    last, starts = torch.empty_like(state), []
    lost = torch.zeros(len(ages), dtype=torch.bool)
    with torch.no_grad():
        for start, stop in pairwise(bounds):
            trading = int((ages >= stop).sum())
            state = state[:trading]
            starts.append(state)
            for x_t in x[start:stop, :trading]:
                state = model.cell(x_t, state)
            last[:trading] = state
            lost[:trading] |= state.isnan().any(1)
    return starts, last, lost


def _seeds(
    model: RecurrentModel,
    last: Tensor,
    loss: Callable[[Tensor], Tensor] | None,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Of last states (B, S), u dp/ds (B, S) and log10 of the error ||dl/dp|| (B,)."""
    last = last.detach().requires_grad_()
    with torch.enable_grad():
        prediction = model.readout(last)
        told = prediction.detach().to(device, dtype).requires_grad_()
        if loss is None and told.shape[1] > 1:
            raise ValueError(f"{told.shape[1]} outputs need a loss, to say which way to look")
        if loss is None:
            towards = torch.full_like(prediction, math.nan)
        else:
            (towards,) = torch.autograd.grad(loss(told).sum(), told)
            towards = towards.detach().to("cpu", torch.float64)
        size = _norm(towards)
        u = towards / size[:, None]
        # Where the error is 0 or not finite no direction is singled out: all outputs alike.
        u = u.where(u.isfinite().all(1, keepdim=True), u.shape[1] ** -0.5)
        if u.shape[1] == 1:
            u = torch.ones_like(u)
        (seeds,) = torch.autograd.grad(prediction, last, u)
    return seeds, size.log10()


def _sweep(
    model: RecurrentModel,
    x: Tensor,
    ages: Tensor,
    bounds: list[int],
    starts: list[Tensor],
    seeds: Tensor,
    lost: Tensor,
) -> dict[str, Tensor]:
    """From the last day to the first, log10 of the flow by day: each (T, B)."""
    names = ["state", *(model.parts if len(model.parts) > 1 else ()), "x"]
    days = {name: x.new_full(x.shape[:2], math.nan) for name in names}
    pull, log10 = seeds[:0], ages[:0].double()
    for start, stop, state in zip(bounds[-2::-1], bounds[:0:-1], starts[::-1], strict=True):
        trading = len(state)
        # Those whose last day ends this segment set out; those still older are under way.
        pull = torch.cat([pull, seeds[len(pull) : trading]])
        log10 = torch.cat([log10, log10.new_zeros(trading - len(log10))])
        pull, log10 = _rescaled(pull, log10)
        found, pull, log10 = _segment(model, x[start:stop, :trading], state, pull, log10, lost)
        for name, values in found.items():
            days[name][start:stop, :trading] = values
    return days


def _segment(
    model: RecurrentModel, x: Tensor, start: Tensor, pull: Tensor, log10: Tensor, lost: Tensor
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Sweep days x (t, n, F) back from `pull`, the gradient after the last of them over 10**log10.

    Returns log10 of the flow by day, each (t, n), and pull and log10 at the start.
    """
    start, x = start.detach().requires_grad_(), x.detach().requires_grad_()
    with torch.enable_grad():
        states, state = [], start
        for x_t in x.unbind(0):
            state = model.cell(x_t, state)
            states.append(state)
        before, at_x, *at_states = torch.autograd.grad(state, [start, x, *states[:-1]], pull)
    at_states = torch.stack([*at_states, pull])
    norms = {"state": _norm(at_states)}
    if len(model.parts) > 1:
        norms |= dict(zip(model.parts, map(_norm, model.split(at_states)), strict=True))
    norms["x"] = _norm(at_x)

    if len(x) > 1:
        seen = torch.cat([*norms.values(), _norm(before)[None]])[:, ~lost[: len(pull)]]
        if (~seen.isfinite() | ((seen > 0) & (seen < TINY))).any():
            half = len(x) // 2
            middle = states[half - 1]
            late, pull, log10 = _segment(model, x[half:], middle, pull, log10, lost)
            pull, log10 = _rescaled(pull, log10)
            early, pull, log10 = _segment(model, x[:half], start, pull, log10, lost)
            return {name: torch.cat([early[name], late[name]]) for name in norms}, pull, log10
    return {name: log10 + norm.log10() for name, norm in norms.items()}, before, log10


def _rescaled(pull: Tensor, log10: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients (n, S) of norm 1, their size moved to log10 (n,); an exact 0 stays."""
    size = _norm(pull)
    there = size != 0
    return pull / size.where(there, 1)[:, None], log10 + size.where(there, 1).log10()


def _norm(values: Tensor) -> Tensor:
    """2-norms over the last dimension, where squares would overflow or vanish too."""
    largest = values.abs().amax(-1, keepdim=True)
    scale = largest.where((largest > 0) & largest.isfinite(), 1)
    return torch.linalg.vector_norm(values / scale, dim=-1) * scale.squeeze(-1)


def _by_lag(days: Tensor, ages: Tensor, lost: Tensor) -> Tensor:
    """Values by day (T, B) to values by lag (B, T), nan where a company is younger or lost."""
    lags = torch.full_like(days.T, math.nan)
    for company, age in enumerate(ages.tolist()):
        if not lost[company]:
            lags[company, :age] = days[:age, company].flip(0)
    return lags
