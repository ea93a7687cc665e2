"""Which days taught the weights: what each day adds to the gradient of a recurrent weight.

B companies, T days, F features a day, K outputs, S state size, N company-days.

Every day uses the same weights W, so dl/dW is a sum over days: with v_t = u dp/ds_t, the gradient
at the state after day t, company b's day t adds v_t ds_t/dW, where s_{t-1} is held fixed. For a
layer of the form of nn.RNN that is delta_t h_{t-1}^T, of norm ||delta_t|| ||h_{t-1}||.

As in flow.py the chain rule is cut at the prediction: this is u dp_b/dW by days, and the error
||dl_b/dp_b|| is the one factor, the same on all days and for all weights, that makes dl_b/dW of it.
Unlike the flow to the states it also asks what was there to learn from: a day that the gradient
reaches adds nothing where the state before it is 0.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from statland.gradients.flow import Flow, Loss, as_recurrence, by_lag, frozen, gradient_flow
from statland.gradients.sweep import TINY, norm
from statland.models.base import RecurrentModel
from statland.models.by_row import Factors

# Gradients are computed of so many company-days at once, at most, and so many numbers: 16 MiB.
MOST_ROWS, BLOCK_ELEMENTS = 512, 2**21

MOST_DECADES = 308  # of a float64


class WeightFlow(NamedTuple):
    """Log10 of what each day adds to the weights, by lag: nan where a company is younger or lost.

    -inf is an exact 0. A sum is nan also where a day's state, and so its term, has overflowed.
    """

    log10: dict[str, Tensor]  # by the name of the weight: each (B, T)
    together: Tensor  # (B, T) the norm over all weights together
    summed: dict[str, Tensor]  # by name, (B,): the norm of all days' sum, ||u dp_b/dW||
    log10_error: Tensor  # (B,) log10 of ||dl_b/dp_b||; nan where no loss was given
    lost: Tensor  # (B,) True where the state or the prediction is nan


def weight_flow(
    model: nn.Module,
    x: Tensor,
    lengths: Tensor | None = None,
    loss: Loss | None = None,
) -> WeightFlow:
    """Measure, by lag, the norm of what each day adds to the gradient of each recurrent weight.

    x (B, T, F), lengths (B,), `loss` and what `model` may be are as for `gradient_flow`, but that
    the model must have a state. The norm is that of u dp_b/dW's term of the day, and lag 0 is the
    company's own last day; plus log10_error it is that of dl_b/dW's.

    The recurrent weights are all parameters that a day's step uses, by the names that
    `named_parameters` has for them; the readout's, and what a plain function brings along without
    being a module, are none. Where a matrix is itself computed from a parameter (exprnn) it stands
    for that.

        rnn, head = nn.GRU(3, 64, batch_first=True), nn.Linear(64, 1)
        taught = weight_flow(rnn, x, loss=lambda h: (head(h) - y).square().squeeze(1))
        profile(taught.log10["weight_hh_l0"]).median   # at lag 0, 1, 2, ...
        profile(taught.together).median                # all weights together
        taught.summed["weight_hh_l0"]                  # how the prediction depends on it, in all

    All is computed on a float64 copy, on the processor, in evaluation mode; what a day adds is
    computed of a gradient of norm 1, so no number of days overflows or vanishes. Raises ValueError
    for a model without a state, and where `gradient_flow` does. Asked for since 2017 in PyTorch
    issue 1407, "weight gradients by time step".
    """
    recurrent, by_company = as_recurrence(model, x)
    if not isinstance(recurrent, RecurrentModel):
        raise ValueError(f"{type(model).__name__} has no state; allowed: a recurrent model")
    found = of_flow(recurrent, by_company, gradient_flow(model, x, lengths, loss), lengths)
    if recurrent is model:
        return found
    prefix = "recurrence." if isinstance(model, nn.RNNBase) else "step.cell."
    log10, summed = (
        {name.removeprefix(prefix): values for name, values in by_name.items()}
        for by_name in (found.log10, found.summed)
    )
    return found._replace(log10=log10, summed=summed)


def of_flow(
    model: RecurrentModel, x: Tensor, flow: Flow, lengths: Tensor | None = None
) -> WeightFlow:
    """The same where the flow of these companies, x (B, T, F), has been measured already."""
    companies, days = x.shape[:2]
    ages = torch.full((companies,), days) if lengths is None else lengths.cpu()
    size = flow.log10["state"].new_full((companies, days), math.nan)
    norms: dict[str, Tensor] = {}
    together = size.clone()
    sums = _Sums(flow, ages)
    for company, day, added in contributions(model, x, flow, ages):
        rows = {name: _norm_of(factors) for name, factors in added.items()}
        for name, values in rows.items():
            norms.setdefault(name, size.clone())[company, day] = values
        together[company, day] = norm(torch.stack(list(rows.values()), 1))
        sums.add(company, day, added, together[company, day])

    def log10(by_day: Tensor) -> Tensor:
        return by_lag(by_day, ages, flow.lost).log10() + flow.log10["state"]

    by_name = {name: log10(values) for name, values in norms.items()}
    return WeightFlow(by_name, log10(together), sums.log10, flow.log10_error, flow.lost)


class _Sums:
    """Adds up what the days add, company by company: the terms themselves, which may cancel.

    Over the largest term so far, so that no sum overflows, and none vanishes in which a day of
    little flow adds most. One company at a time is held: there may be many, and each has sums as
    large as all weights.
    """

    def __init__(self, flow: Flow, ages: Tensor) -> None:
        self.at_state, self.ages, self.lost = flow.log10["state"], ages, flow.lost
        self.sums: dict[str, Tensor] = {}  # of the company in progress, by weight, over 10**scale
        self.scale = -math.inf
        self.log10: dict[str, Tensor] = {}  # by weight (B,): of the norm of the sum

    def add(
        self, company: Tensor, day: Tensor, added: dict[str, Factors], together: Tensor
    ) -> None:
        """Take the next rows, all (N, ...), which go on where the last ones ended.

        `together` is the norm of what each adds, over its flow.
        """
        at_state, end = self.at_state[company, self.ages[company] - 1 - day], 0
        terms = torch.where(together == 0, -math.inf, at_state + together.log10())
        for one, count in zip(*torch.unique_consecutive(company, return_counts=True), strict=True):
            start, end = end, end + int(count)
            rows = slice(start, end)
            scale = max(terms[rows].max().item(), self.scale)  # nan where a term is, and for good
            if scale != -math.inf:  # not all of them are exactly 0
                share = 10 ** (at_state[rows] - scale).clamp(max=MOST_DECADES)
                share = share.where(terms[rows] > -math.inf, 0)
                kept = 10 ** (self.scale - scale)
                for name, factors in added.items():
                    term = _sum_of([factor[rows] for factor in factors], share)
                    before = self.sums.get(name)
                    self.sums[name] = term if before is None else term + kept * before
                self.scale = scale
            if day[end - 1] == self.ages[one] - 1:  # its last
                self._finish(int(one), added)

    def _finish(self, company: int, names: Iterable[str]) -> None:
        for name in names:
            found = self.log10.setdefault(name, self.at_state.new_full(self.ages.shape, math.nan))
            if not self.lost[company]:
                total = self.sums.get(name)
                found[company] = (
                    -math.inf if total is None else norm(total.flatten()).log10() + self.scale
                )
        self.sums.clear()
        self.scale = -math.inf


def contributions(
    model: RecurrentModel, x: Tensor, flow: Flow, ages: Tensor
) -> Iterator[tuple[Tensor, Tensor, dict[str, Factors]]]:
    """What company-days add to the weights' gradients, over ||u dp/ds_t||, some days at a time.

    The companies (N,), their days (N,) and, by weight, the `Factors` of what each adds. Company by
    company, each from its first day on.
    """
    model = frozen(model)
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    assert flow.states is not None
    assert flow.directions is not None
    with torch.no_grad():
        start = model.initial_state(len(x))
    before = torch.cat([start[None], flow.states[:-1]])  # (T, B, S)
    traded = torch.arange(x.shape[1]) < ages[:, None]
    rows, count = traded.nonzero(), 1  # the first row by itself shows how large they are
    while len(rows):
        (company, day), rows = rows[:count].unbind(1), rows[count:]
        x_t = x[company, day].detach().to("cpu", torch.float64)
        v = flow.directions[day, company]
        with torch.random.fork_rng(devices=[]):
            added = model.weight_gradients(x_t, before[day, company], v)
        if not added:
            return
        yield company, day, added
        numbers = sum(factor[0].numel() for factors in added.values() for factor in factors)
        count = max(1, min(MOST_ROWS, BLOCK_ELEMENTS // numbers))


def _norm_of(factors: Factors) -> Tensor:
    """The norm (N,) of each row's tensor, or outer product."""
    sizes = [_row_norms(factor.reshape(len(factor), -1)) for factor in factors]
    return sizes[0] if len(sizes) == 1 else sizes[0] * sizes[1]


def _sum_of(factors: Sequence[Tensor], share: Tensor) -> Tensor:
    """What rows (N, ...) add together, each times its share (N,), as a matrix or a vector."""
    first, *second = (factor.reshape(len(share), -1) for factor in factors)
    return first.T @ (share[:, None] * second[0]) if second else share @ first


def _row_norms(rows: Tensor) -> Tensor:
    """`norm` of rows (N, any), at a third of its price where no square is out of range."""
    sizes = torch.linalg.vector_norm(rows, dim=1)
    doubtful = (sizes < TINY) | (sizes > 1 / TINY)
    if doubtful.any():
        doubtful &= rows.any(1)  # rows of zeros are none
        sizes[doubtful] = norm(rows[doubtful])
    return sizes
