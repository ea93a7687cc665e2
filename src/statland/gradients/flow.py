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
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from statland.gradients.backward import backward, norm, unroll_batch
from statland.models.bare import Stepped
from statland.models.base import RecurrentModel, SequenceModel, State, at_last_day

Module = TypeVar("Module", bound=nn.Module)
Loss = Callable[[Tensor], Tensor]
Direction = Callable[[Tensor], tuple[Tensor, Tensor]]


class Flow(NamedTuple):
    """Log10 of the gradient flow, by lag: nan where a company is younger, -inf for an exact 0."""

    log10: dict[str, Tensor]  # state, its parts (h, c) where it has several, x: each (B, T)
    log10_error: Tensor  # (B,) log10 of ||dl_b/dp_b||; nan where no loss was given
    lost: Tensor  # (B,) True where the state or the prediction is nan; nan everywhere
    states: State | None = None  # (T + 1, B, ...) before the first day, then after each; float64
    directions: State | None = None  # (T, B, ...) u dp/ds_t over its norm


def gradient_flow(
    model: nn.Module,
    x: Tensor,
    lengths: Tensor | None = None,
    loss: Loss | None = None,
) -> Flow:
    """Measure the flow of every company of a batch, back to its first day.

    x is (B, T, F), right-padded; lengths (B,), by default T for all. `loss` maps predictions (B, K)
    to losses (B,), not divided by the batch size; for a single output it may be left out.

    `model` may be

    - a RecurrentModel of this project, or any step with a readout as a `Recurrence`: the flow to
      its states and inputs;
    - an nn.RNN, nn.LSTM, nn.GRU or one of their cells: likewise; it predicts its last hidden state
      (B, H). x has the layout that nn.RNN expects, so (T, B, F) unless it is batch_first;
    - any other module that maps x to predictions (B, K): the flow to its inputs alone. There a flow
      below 1e-308 is lost, and -inf may mean that; only a SequenceModel takes lengths.

        rnn, head = nn.GRU(3, 64, batch_first=True), nn.Linear(64, 1)
        flow = gradient_flow(rnn, x, loss=lambda h: (head(h) - y).square().squeeze(1))
        profile(flow.log10["state"]).median   # log10 of the flow at lag 0, 1, 2, ...

    All is computed on a float64 copy, on the processor, without dropout: the model, its gradients
    and the random numbers stay as they are. Raises ValueError if several outputs have no loss, the
    loss does not give one value per company, or predictions are not (B, K).
    """
    model, x = as_recurrence(model, x)
    if lengths is not None and not isinstance(model, SequenceModel):
        raise ValueError(f"{type(model).__name__} takes no lengths; only a SequenceModel does")
    model, dtype, device = frozen(model), x.dtype, x.device
    x = x.detach().to("cpu", torch.float64)
    ages = torch.full((len(x),), x.shape[1]) if lengths is None else lengths.cpu()

    def direction(prediction: Tensor) -> tuple[Tensor, Tensor]:
        return _direction(prediction, loss, dtype, device)

    measure = _to_states if isinstance(model, RecurrentModel) else _to_inputs
    with torch.random.fork_rng(devices=[]):
        return measure(model, x, ages, direction)


def as_recurrence(model: nn.Module, x: Tensor) -> tuple[nn.Module, Tensor]:
    """Return an nn.RNN, nn.LSTM, nn.GRU or a cell as a RecurrentModel, and x as (B, T, F)."""
    if isinstance(model, nn.RNNBase):
        return Stepped(model), x if model.batch_first else x.transpose(0, 1)
    return (Stepped(model) if isinstance(model, nn.RNNCellBase) else model), x


def frozen(model: Module) -> Module:
    """Return a float64 copy on the processor, in evaluation mode, that needs no gradient.

    A weight that is computed from other parameters (exprnn's orthogonal matrix, weight norm) is
    computed once and becomes a parameter of its own.
    """
    copied = copy.deepcopy(model).to("cpu", torch.float64).eval()
    for module in list(copied.modules()):
        if parametrize.is_parametrized(module):
            kind = type(module)  # which the copy shares with the model, and which is changed below
            module.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name)
    return copied.requires_grad_(False)


def _to_states(model: nn.Module, x: Tensor, ages: Tensor, direction: Direction) -> Flow:
    """The flow to states and inputs, by stepping `cell` and sweeping back."""
    assert isinstance(model, RecurrentModel)
    # Oldest first, so that the companies that trade on a day are the first rows of the batch.
    order = ages.argsort(descending=True, stable=True)
    back = order.argsort()
    run = unroll_batch(model, x[order].transpose(0, 1), ages[order])
    last = {
        name: at_last_day(states[1:], ages[order])[back].requires_grad_()
        for name, states in run.states.items()
    }
    with torch.enable_grad():
        prediction = model.readout(last)
        u, error = direction(prediction)
        along = (prediction * u).sum()
        found = torch.autograd.grad(along, list(last.values()), materialize_grads=True)
    seeds = {name: seed[order] for name, seed in zip(last, found, strict=True)}
    days, directions = backward(model, run, seeds)
    lost = run.lost[back] | prediction.detach().isnan().any(1)
    log10 = {name: by_lag(values[:, back].T, ages, lost) for name, values in days.items()}
    states, directions = (
        {name: values[:, back] for name, values in state.items()}
        for state in (run.states, directions)
    )
    return Flow(log10, error, lost, states, directions)


def _to_inputs(model: nn.Module, x: Tensor, ages: Tensor, direction: Direction) -> Flow:
    """The flow to inputs alone, by autograd through `forward`."""
    x = x.requires_grad_()
    with torch.enable_grad():
        prediction = model(x, ages) if isinstance(model, SequenceModel) else model(x)
        if prediction.ndim != 2 or len(prediction) != len(x):
            shape = tuple(prediction.shape)
            raise ValueError(f"predictions have shape {shape}; expected ({len(x)}, K)")
        u, error = direction(prediction)
        (at_x,) = torch.autograd.grad((prediction * u).sum(), x, materialize_grads=True)
    lost = prediction.detach().isnan().any(1)
    return Flow({"x": by_lag(norm(at_x).log10(), ages, lost)}, error, lost)


def _direction(
    prediction: Tensor, loss: Loss | None, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Of predictions (B, K), the unit vectors u (B, K) along dl/dp, and log10 of the error (B,).

    The loss sees the predictions in the dtype and on the device of the caller's x.
    """
    seen = prediction.detach().to(device, dtype).requires_grad_()
    companies, outputs = prediction.shape
    if loss is None:
        if outputs > 1:
            raise ValueError(f"{outputs} outputs need a loss, to say which way to look")
        towards = torch.full_like(prediction, math.nan)
    else:
        losses = loss(seen)
        if losses.shape != (companies,):
            raise ValueError(
                f"the loss has shape {tuple(losses.shape)}; expected one value a company, "
                f"({companies},): a mean over companies would shift the error by their number"
            )
        (towards,) = torch.autograd.grad(losses.sum(), seen)
        towards = towards.detach().to("cpu", torch.float64)
    size = norm(towards)
    u = towards / size[:, None]
    # Where the error is 0 or not finite no direction is singled out: all outputs alike.
    u = u.where(u.isfinite().all(1, keepdim=True), outputs**-0.5)
    return (torch.ones_like(u) if outputs == 1 else u).detach(), size.log10().detach()


def by_lag(days: Tensor, ages: Tensor, lost: Tensor) -> Tensor:
    """Values by day (B, T) to values by lag, or back; nan where a company is younger or lost."""
    day = ages[:, None] - 1 - torch.arange(days.shape[1])
    return days.gather(1, day.clamp(min=0)).where((day >= 0) & ~lost[:, None], math.nan)
