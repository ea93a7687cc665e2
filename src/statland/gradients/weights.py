"""Which days taught the weights: what each day adds to the gradient of a recurrent weight.

B companies, T days, F features a day, K outputs, N company-days.

Every day uses the same weights W, so dl/dW is a sum over days: with v_t = u dp/ds_t, the gradient
at the state after day t, company b's day t adds v_t ds_t/dW, where s_{t-1} is held fixed. For a
layer of the form of nn.RNN that is delta_t h_{t-1}^T, of norm ||delta_t|| ||h_{t-1}||.

As in flow.py the chain rule is cut at the prediction. Unlike the flow to the states this also asks
what there was to learn from: a day that the gradient reaches adds nothing if the state before is 0.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from statland.gradients.backward import flat, inner_product, norm
from statland.gradients.flow import Flow, Loss, by_lag, gradient_flow
from statland.gradients.frozen import frozen
from statland.models.bare import as_recurrence
from statland.models.base import RecurrentModel, State, traded

# Company-days whose gradients are computed at once, and numbers that these may hold: 16 MiB.
MOST_ROWS, BLOCK_ELEMENTS = 512, 2**21


class WeightFlow(NamedTuple):
    """Log10 of what each day adds to the weights, by lag: nan where a company is younger or lost.

    -inf is an exact 0. A sum is nan also if a day's state, and so its term, has overflowed.
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

    The arguments are those of `gradient_flow`; the model must have a state. The norm is that of u
    dp_b/dW's term of the day; plus log10_error it is that of dl_b/dW's. The recurrent weights are
    the parameters that a day's step uses, by their names in `named_parameters`. A matrix that is
    computed from a parameter (exprnn's) is measured in its place.

        rnn, head = nn.GRU(3, 64, batch_first=True), nn.Linear(64, 1)
        added = weight_flow(rnn, x, loss=lambda h: (head(h) - y).square().squeeze(1))
        profile(added.log10["weight_hh_l0"]).median   # at lag 0, 1, 2, ...
        profile(added.together).median                # all weights together
        added.summed["weight_hh_l0"]                  # how the prediction depends on it, in all

    Raises ValueError for a model without a state, and where `gradient_flow` does. Asked for since
    2017 in PyTorch issue 1407, "weight gradients by time step".
    """
    recurrent, by_company = as_recurrence(model, x)
    if not isinstance(recurrent, RecurrentModel):
        raise ValueError(f"{type(model).__name__} has no state; allowed: a recurrent model")
    found = of_flow(recurrent, by_company, gradient_flow(model, x, lengths, loss), lengths)
    own = {id(parameter): name for name, parameter in model.named_parameters()}
    parameters = recurrent.named_parameters()
    names = {name: own.get(id(parameter), name) for name, parameter in parameters}
    log10, summed = (
        {names.get(name, name): values for name, values in by_name.items()}
        for by_name in (found.log10, found.summed)
    )
    return found._replace(log10=log10, summed=summed)


def of_flow(
    model: RecurrentModel, x: Tensor, flow: Flow, lengths: Tensor | None = None
) -> WeightFlow:
    """Return the same from the flow of these companies, x (B, T, F), measured before."""
    assert flow.states is not None
    assert flow.directions is not None
    companies, days, _ = x.shape
    ages = torch.full((companies,), days) if lengths is None else lengths.cpu()
    is_traded = traded(ages, days)
    x = x.detach().to("cpu", torch.float64).where(is_traded[..., None], 0)
    before, directions = (
        {name: values[:days].transpose(0, 1) for name, values in state.items()}
        for state in (flow.states, flow.directions)
    )
    model = frozen(model)
    weights = weights_of_cell(model, x[:1, 0], {name: s[:1, 0] for name, s in before.items()})
    at_state = by_lag(flow.log10["state"], ages, flow.lost)  # by day
    at_state = at_state.where(is_traded, -math.inf)
    # Of gradients of norm 1: 10**at_state is multiplied to them in logarithms alone.
    norms = {name: torch.zeros_like(at_state) for name in weights}
    together = torch.full_like(at_state, math.nan)
    sums = {name: Scaled.zeros(companies, weight.numel()) for name, weight in weights.items()}
    numbers = max(1, sum(weight.numel() for weight in weights.values()))
    rows = max(1, min(MOST_ROWS, BLOCK_ELEMENTS // numbers) // companies)
    for some in torch.arange(days).split(rows) if weights else ():
        state, v = ({n: s[:, some] for n, s in of.items()} for of in (before, directions))
        added = contributions(model, weights, x[:, some], state, v)
        for name, terms in added.items():
            norms[name][:, some] = norm(flat(terms, 2))
            sums[name] = _add_days(sums[name], flat(terms, 2), at_state[:, some])
        together[:, some] = norm(torch.stack([sizes[:, some] for sizes in norms.values()], -1))

    def log10(sizes: Tensor) -> Tensor:
        return by_lag(sizes, ages, flow.lost).log10() + flow.log10["state"]

    return WeightFlow(
        {name: log10(sizes) for name, sizes in norms.items()},
        log10(together),
        {name: norm(total.values).log10() + total.log10 for name, total in sums.items()},
        flow.log10_error,
        flow.lost,
    )


class Scaled(NamedTuple):
    """A weight's sum over days, relative to its own largest term: of any size beside others'."""

    values: Tensor  # (B, numbers)
    log10: Tensor  # (B,) the sum is the values times 10**log10

    @classmethod
    def zeros(cls, companies: int, numbers: int) -> "Scaled":
        """Return the sum of no days."""
        values = torch.zeros(companies, numbers, dtype=torch.float64)
        return cls(values, torch.full((companies,), -math.inf, dtype=torch.float64))


def _add_days(total: Scaled, terms: Tensor, log10: Tensor) -> Scaled:
    """Add days' terms (B, t, numbers), each times 10**log10 (B, t), to a weight's sum.

    The scale becomes the largest term so far, so that the sum does not overflow, and a day of
    little flow that adds most does not vanish. It is nan for good once a term is nan.
    """
    sizes = norm(terms)
    log10 = torch.where(sizes == 0, -math.inf, log10 + sizes.log10())
    largest = torch.maximum(total.log10, log10.amax(1))
    unit = largest.where(largest != -math.inf, 0)
    kept, share = 10 ** (total.log10 - unit), 10 ** (log10 - unit[:, None])
    directions = terms / sizes.where(sizes != 0, 1)[..., None]
    values = (share[:, None] @ directions).squeeze(1) + kept[:, None] * total.values
    return Scaled(values, largest)


class _Day(nn.Module):
    """A model's `cell` as a forward, which functional_call needs."""

    def __init__(self, model: RecurrentModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_t: Tensor, state: State) -> State:
        """One day of (N, F) and a state (N, ...)."""
        return self.model.cell(x_t, state)


def weights_of_cell(model: RecurrentModel, x_t: Tensor, state: State) -> State:
    """Return the parameters that `cell` uses, by name, given one company's day."""
    parameters = {n: p.detach().requires_grad_() for n, p in model.named_parameters()}
    replaced = {f"model.{name}": p for name, p in parameters.items()}
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        after = functional_call(_Day(model), replaced, (x_t, state))
    total = sum(part.sum() for part in after.values())
    if not isinstance(total, Tensor) or not total.requires_grad:
        return {}
    found = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    used = zip(parameters.items(), found, strict=True)
    return {name: p.detach() for (name, p), gradient in used if gradient is not None}


def contributions(
    model: RecurrentModel, weights: State, x: Tensor, state: State, v: State
) -> State:
    """Each company-day's v ds_t/dW (n, t, *shape of W), from (n, t, ...) each."""
    day, x_t = _Day(model), x.flatten(0, 1)
    # Each company-day gets a weight of its own: torch.func.vjp would take 2 s to import.
    own = {n: w.expand(len(x_t), *w.shape).requires_grad_() for n, w in weights.items()}

    def after(x_t: Tensor, before: State, replaced: State) -> State:
        """One company's day."""
        named = {f"model.{name}": weight for name, weight in replaced.items()}
        rows = {name: part[None] for name, part in before.items()}
        found: State = functional_call(day, named, (x_t[None], rows))
        return found

    before, at_after = ({n: s.flatten(0, 1) for n, s in of.items()} for of in (state, v))
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        ends = vmap(after, randomness="different")(x_t, before, own)
        total = inner_product({n: part.squeeze(1) for n, part in ends.items()}, at_after)
    found = torch.autograd.grad(total, list(own.values()))
    return {n: terms.unflatten(0, x.shape[:2]) for n, terms in zip(own, found, strict=True)}
