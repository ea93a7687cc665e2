"""The minimal GRU: gates that do not look at the state, so that the recurrence is linear.

B companies, T days, F features a day, K outputs, H hidden units, S state size, L layers.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from statland.models.activation import sigmoid, sigmoid_slope
from statland.models.base import (
    GateBias,
    Pullback,
    RecurrentModel,
    at_last_day,
    check_sizes,
    check_weights,
)
from statland.models.by_row import Factors
from statland.models.linear_recurrence import linear_recurrence
from statland.models.stacked import Init, last_layer, side_by_side


class MinGRU(RecurrentModel):
    """A GRU without a recurrent matrix, in L layers, each fed by the one below.

    z   = sigmoid(V x_t + b)
    h_t = (1 - z) * h_{t-1} + z * (W x_t + c)

    and the prediction is a linear map of the top layer's h. The state is the layers' h side by
    side, the bottom one first: S = L * H.

    L. Feng, F. Tung, M. O. Ahmed, Y. Bengio and H. Hajimirsadeghi, "Were RNNs all we needed?",
    arXiv:2410.01201 (2024): the minGRU of its section 3.1. For a parallel scan in logarithms the
    paper also passes W x_t + c through a function g that is above 0; a sweep needs none.
    The gate z opens to write, so the forget gate of this model is 1 - z.
    """

    def __init__(
        self, input_size: int, output_size: int, hidden_size: int, num_layers: int, init: Init
    ) -> None:
        check_sizes(hidden_size, num_layers)
        sizes = f"model.num_layers {num_layers} of model.hidden_size {hidden_size} are"
        check_weights(sizes, 2 * num_layers * hidden_size**2)
        super().__init__()
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.state_size = num_layers * hidden_size
        below = [input_size, *[hidden_size] * (num_layers - 1)]
        self.gates = nn.ModuleList(nn.Linear(size, hidden_size) for size in below)  # V, b
        self.values = nn.ModuleList(nn.Linear(size, hidden_size) for size in below)  # W, c
        self.output = nn.Linear(hidden_size, output_size)
        init(self)

    def initial_state(self, batch_size: int) -> Tensor:
        """The state before the first day: zeros (B, S)."""
        return self.output.weight.new_zeros(batch_size, self.state_size)

    def cell(self, x_t: Tensor, state: Tensor) -> Tensor:
        """One day: (B, F), (B, S) -> (B, S)."""
        return side_by_side([h for _, _, h in self._layers(x_t, state)])

    def readout(self, state: Tensor) -> Tensor:
        """The prediction (B, K) of a state (B, S)."""
        return self.output(last_layer(state, self.hidden_size))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Predictions (B, K); equal to unrolling `cell`, a layer at a time over all days."""
        days = x.transpose(0, 1)
        for gate, value in self._linears():
            days = linear_recurrence(*Gated.apply(gate(days), value(days)))  # (T, B, H)
        return self.output(at_last_day(days, lengths))

    def gate_biases(self, gate: str) -> list[GateBias]:
        """The forget gate 1 - z = sigmoid(-(V x + b)) has the bias -b."""
        if gate != "forget":
            return []
        return [GateBias((linear.bias,), sign=-1) for linear, _ in self._linears()]

    def activations(self, x: Tensor, state: Tensor) -> dict[str, Tensor]:
        """How far the forget gate 1 - z is open: (N, L * H)."""
        return {"forget": side_by_side([sigmoid(-a) for a, _, _ in self._layers(x, state)])}

    def pullback(self, x: Tensor, before: Tensor) -> Pullback:
        """The equations above differentiated, the slopes of all days at once; v = dl/dh_t.

        dl/dh_{t-1} = (1 - z) * v
        dl/dx_t     = V^T (sigmoid'(a) (W x_t + c - h_{t-1}) v) + W^T (z * v)
        """
        h_before = before.chunk(self.num_layers, dim=-1)
        slopes = []
        for (a, value, _), h in zip(self._layers(x, before), h_before, strict=True):
            slopes.append((sigmoid(-a), sigmoid_slope(a) * (value - h), sigmoid(a)))
        layers = list(zip(slopes, self._linears(), strict=True))[::-1]

        def pull(day: int, v: Tensor) -> tuple[Tensor, Tensor]:
            found, from_above = [], torch.zeros(())
            at_layers = v.chunk(len(layers), dim=-1)[::-1]
            for (slope, (gate, value)), at_h in zip(layers, at_layers, strict=True):
                kept, to_gate, z = (values[day] for values in slope)
                at_h = at_h + from_above
                found.append(kept * at_h)
                from_above = (to_gate * at_h) @ gate.weight + (z * at_h) @ value.weight
            return side_by_side(found[::-1]), from_above

        return pull

    @torch.no_grad()
    def weight_gradients(self, x: Tensor, before: Tensor, v: Tensor) -> dict[str, Factors]:
        """The same by rows: at a = V x + b and at W x + c, times what the matrix was multiplied by.

        x is (N, F), before and v are (N, S).
        """
        days, from_above = list(self._layers(x, before)), torch.zeros(())
        below = [x, *(h for _, _, h in days)]
        layers = zip(days, below, *(s.chunk(len(days), dim=-1) for s in (before, v)), strict=False)
        found: dict[str, Factors] = {}
        for index, ((a, value, _), under, h, at_h) in reversed(list(enumerate(layers))):
            at_h = at_h + from_above
            deltas = {"gates": sigmoid_slope(a) * (value - h) * at_h, "values": sigmoid(a) * at_h}
            for name, delta in deltas.items():
                found[f"{name}.{index}.weight"] = delta, under
                found[f"{name}.{index}.bias"] = (delta,)
            weights = (self.get_parameter(f"{name}.{index}.weight") for name in deltas)
            from_above = sum(d @ w for d, w in zip(deltas.values(), weights, strict=True))
        return found

    def _layers(self, x_t: Tensor, state: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """One day, layer by layer from the bottom: a = V x + b, W x + c, and h."""
        below = x_t
        before = state.chunk(self.num_layers, dim=-1)
        for (gate, value), h in zip(self._linears(), before, strict=True):
            a, new = gate(below), value(below)
            below = sigmoid(-a) * h + sigmoid(a) * new
            yield a, new, below

    def _linears(self) -> Iterator[tuple[nn.Linear, nn.Linear]]:
        """Each layer's V, b and W, c, the bottom one first."""
        for gate, value in zip(self.gates, self.values, strict=True):
            assert isinstance(gate, nn.Linear)
            assert isinstance(value, nn.Linear)
            yield gate, value


class Gated(torch.autograd.Function):
    """What is kept and what is added, 1 - z and z * n with z = sigmoid(a), of all days at once.

    Backward, from k = dl/d(1 - z) and w = dl/d(z * n):
        dl/dn = z * w,  dl/da = z (1 - z) (n * w - k)
    1 - z is written sigmoid(-a), so that neither factor is 0 but for rounding.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
        """Map a and n, each (T, B, H), to 1 - z and z * n."""
        z, kept = a.sigmoid(), a.neg().sigmoid_()
        ctx.save_for_backward(z, kept, n)
        return kept, z * n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, at_kept: Tensor, at_added: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients at a and n."""
        z, kept, n = ctx.saved_tensors
        at_a = torch.mul(n, at_added).sub_(at_kept).mul_(z).mul_(kept)
        return at_a, z * at_added
