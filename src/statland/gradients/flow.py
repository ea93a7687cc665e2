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

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from statland.gradients.backward import backward, flat, norm, unroll_batch
from statland.gradients.frozen import exact, frozen, placed, undisturbed
from statland.models.bare import Prediction, as_recurrence, predict, takes_lengths
from statland.models.base import RecurrentModel, State, at_last_day

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
    *,
    at: nn.Module | None = None,
    prediction: Prediction | None = None,
    inputs: Mapping[str, Any] = {},
    dtype: torch.dtype | None = torch.float64,
    device: torch.device | str | None = "cpu",
    progress: bool = False,
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
      below 1e-308 is lost, and -inf may mean that.

        rnn, head = nn.GRU(3, 64, batch_first=True), nn.Linear(64, 1)
        flow = gradient_flow(rnn, x, loss=lambda h: (head(h) - y).square().squeeze(1))
        profile(flow.log10["state"]).median   # log10 of the flow at lag 0, 1, 2, ...

    With `at`, `prediction` or `inputs` any model is called as it is, `model(x, **inputs)`:

    - `at`, a submodule such as the embedding of token ids x (B, T): the flow is to what it returns,
      (B, T, D) or a tuple that begins with it;
    - `prediction` maps what the model returns to (B, K): `lambda out: out.logits[:, -1]`;
    - `inputs`, keyword arguments such as an attention mask.

    `lengths` are passed on if `forward` has that argument. Else they say which days count, and
    `prediction` or a mask must leave padding out.

    All is computed on a float64 copy, on the processor, without dropout: the model, its gradients
    and the random numbers stay as they are. dtype=None or device=None: as the model's own.
    `progress` shows a bar after 5 seconds. Raises ValueError if several outputs have no loss, the
    loss does not give one value per company, or predictions are not (B, K).
    """
    as_it_is = at is not None or prediction is not None or bool(inputs)
    if not as_it_is:
        model, x = as_recurrence(model, x)
    ages = torch.full((len(x),), x.shape[1]) if lengths is None else lengths.cpu()
    if not (as_it_is or takes_lengths(model) or bool((ages == x.shape[1]).all())):
        name = type(model).__name__
        raise ValueError(f"{name} takes no lengths; read each company's last day by prediction=")
    weight = next(model.parameters(), x)
    device = torch.device(device or weight.device)
    # The loss sees predictions as the caller's x is, or the weights where x is token ids.
    seen = (x if x.is_floating_point() else weight).dtype, x.device
    copied = frozen(model, dtype, device)
    x, inputs = placed(x, device, dtype), placed(inputs, device, dtype)

    def direction(prediction: Tensor) -> tuple[Tensor, Tensor]:
        return _direction(prediction, loss, *seen)

    with undisturbed(device):
        if isinstance(copied, RecurrentModel) and not as_it_is:
            return _to_states(copied, x, ages, direction, progress)
        call = partial(predict, copied, x, ages.to(device), prediction, inputs)
        names = {part: name for name, part in model.named_modules()}
        if at is not None and at not in names:
            raise ValueError(f"at is a {type(at).__name__} that is no part of the model")
        place = x if at is None else copied.get_submodule(names[at])
        return _to_inputs(call, place, None if lengths is None else ages, direction)


def _to_states(
    model: RecurrentModel, x: Tensor, ages: Tensor, direction: Direction, progress: bool
) -> Flow:
    """The flow to states and inputs, by stepping `cell` and sweeping back."""
    # Oldest first, so that the companies that trade on a day are the first rows of the batch.
    order = ages.argsort(descending=True, stable=True)
    back = order.argsort()
    run = unroll_batch(model, x[order].transpose(0, 1), ages[order], progress)
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
    days, directions = backward(model, run, seeds, progress)
    lost = (run.lost[back] | prediction.detach().isnan().any(1)).cpu()
    log10 = {name: by_lag(exact(values[:, back].T), ages, lost) for name, values in days.items()}
    states, directions = (
        {name: exact(values[:, back]) for name, values in state.items()}
        for state in (run.states, directions)
    )
    return Flow(log10, error, lost, states, directions)


def _to_inputs(
    predict: Callable[[], Tensor],
    at: Tensor | nn.Module,
    ages: Tensor | None,
    direction: Direction,
) -> Flow:
    """The flow to an input, or to what a module returns, by autograd through one prediction."""
    found: list[Tensor] = []

    def cut(_: nn.Module, given: object, output: Any) -> Any:
        first, *rest = output if isinstance(output, tuple) else (output,)
        found.append(first.detach().requires_grad_())
        return (found[-1], *rest) if isinstance(output, tuple) else found[-1]

    # Backward, cuDNN's recurrences are for training alone.
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        if isinstance(at, nn.Module):
            at.register_forward_hook(cut)
        elif at.is_floating_point():
            found.append(at.requires_grad_())
        else:
            raise ValueError(f"x is {at.dtype}: give the module that embeds it as at=")
        prediction = predict()
        if len(found) != 1:
            raise ValueError(f"at was called {len(found)} times for a prediction; expected once")
        u, error = direction(prediction)
        along = (prediction * u).sum()
        (gradient,) = torch.autograd.grad(along, found, materialize_grads=True)
    lost = prediction.detach().isnan().any(1).cpu()
    days = norm(flat(exact(gradient), 2)).log10()
    ages = torch.full((len(days),), days.shape[1]) if ages is None else ages
    return Flow({"x": by_lag(days, ages, lost)}, error, lost)


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
    towards = exact(towards.detach())
    size = norm(towards)
    u = towards / size[:, None]
    # Where the error is 0 or not finite no direction is singled out: all outputs alike.
    u = u.where(u.isfinite().all(1, keepdim=True), outputs**-0.5)
    u = torch.ones_like(u) if outputs == 1 else u
    return u.to(prediction.dtype).to(prediction.device), size.log10()


def by_lag(days: Tensor, ages: Tensor, lost: Tensor) -> Tensor:
    """Values by day (B, T) to values by lag, or back; nan where a company is younger or lost."""
    day = ages[:, None] - 1 - torch.arange(days.shape[1])
    return days.gather(1, day.clamp(min=0)).where((day >= 0) & ~lost[:, None], math.nan)
