"""What tests of this folder share: the gradient by plain autograd, data, a scalar recurrence."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from statland.gradients import Flow, Recurrence
from statland.models.init import default
from statland.models.rnn_cell import RNNCell

State = Tensor | tuple[Tensor, ...]
Step = Callable[[Tensor, State], State]


def data(lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.rand(len(lengths), int(lengths.max()), 1, dtype=torch.float64)
    return x, lengths, torch.randn(len(lengths), 1, dtype=torch.float64)


def squared(y: Tensor, head: nn.Module | None = None) -> Callable[[Tensor], Tensor]:
    return lambda p: ((p if head is None else head(p)) - y).square().sum(1)


def spoilt(x: Tensor, lengths: Tensor) -> Tensor:
    """With nan in the padding."""
    padding = torch.arange(x.shape[1]) >= lengths[:, None]
    return torch.where(padding[..., None], torch.nan, x)


def tensors_of(state: State) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


def by_autograd(
    step: Step, start: State, predict: Callable[[State], Tensor], x: Tensor, y: Tensor
) -> dict[str, Tensor]:
    """The norms of dl/ds_t and dl/dx_t by lag, (B, T) each, through all of s_t and its tensors."""
    x = x.clone().requires_grad_()
    state, states = start, []
    for x_t in x.unbind(1):
        # A detour, so that each tensor of each day's state is a node of its own.
        state = step(x_t, state)
        parts = tuple(part.clone() for part in tensors_of(state))
        state = parts if isinstance(state, tuple) else parts[0]
        for part in parts:
            part.retain_grad()
        states.append(parts)
    (predict(state) - y).square().sum().backward()

    def norms(places: slice) -> Tensor:
        days = [
            torch.cat([zeros_or(part).reshape(len(x), -1) for part in parts[places]], 1)
            for parts in states
        ]
        return torch.stack(days, 1).norm(dim=2).flip(1)

    found = {"state": norms(slice(None)), "x": x.grad.norm(dim=2).flip(1)}
    if len(states[0]) > 1:
        found |= {str(i): norms(slice(i, i + 1)) for i in range(len(states[0]))}
    return found


def zeros_or(part: Tensor) -> Tensor:
    """Its gradient; 0 where it has no way to the loss."""
    return torch.zeros_like(part) if part.grad is None else part.grad


def agree(
    flow: Flow,
    expected: dict[str, Tensor],
    names: dict[str, str] | None = None,
    rtol: float = 1e-10,
) -> None:
    assert set(flow.log10) == {(names or {}).get(name, name) for name in expected}
    for name, norms in expected.items():
        found = 10 ** (flow.log10[(names or {}).get(name, name)] + flow.log10_error[:, None])
        torch.testing.assert_close(found, norms, rtol=rtol, atol=0)


def orthogonal(gain: float, nonlinearity: str = "identity") -> RNNCell:
    """A recurrence of 8 units, `gain` times an orthogonal matrix."""
    model = RNNCell(1, 1, 8, 1, nonlinearity, default).double()
    with torch.no_grad():
        nn.init.orthogonal_(model.layer(0).weight_hh, gain)
    return model


class Scaling(nn.Module):
    """h_t = w h_{t-1} + x_t."""

    def __init__(self, w: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))

    def forward(self, x_t: Tensor, h: Tensor) -> Tensor:
        return self.w * h + x_t


def scaling(w: float, start: float = 0.0, kind: type[Scaling] = Scaling) -> Recurrence:
    """From a state h of `start`, which is the prediction too."""
    return Recurrence(kind(w), initial=torch.full((1,), start, dtype=torch.float64))
