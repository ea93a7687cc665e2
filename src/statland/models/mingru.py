"""The minimal GRU: gates that do not depend on the state, so that the recurrence is linear.

B companies, T days, F features a day, K outputs, H hidden units, L layers.
"""

from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from statland.models.activation import sigmoid
from statland.models.base import GateBias, State, at_last_day
from statland.models.linear_recurrence import linear_recurrence
from statland.models.stacked import Init, LayeredModel
from statland.settings import Count, Range, Size


class MinGRU(LayeredModel):
    """A GRU without a recurrent matrix, in L layers, each fed by the one below.

    z   = gate_max * sigmoid(V x_t + b)
    h_t = (1 - z) * h_{t-1} + z * (W x_t + c)

    and the prediction is a linear map of the top layer's h. With `gate_max` 2, 1 - z may be
    negative, so that h can change its sign every day, as counting modulo 2 asks for (R. Grazzi et
    al., "Unlocking state-tracking in linear RNNs through negative eigenvalues", ICLR 2025).

    L. Feng, F. Tung, M. O. Ahmed, Y. Bengio and H. Hajimirsadeghi, "Were RNNs all we needed?",
    arXiv:2410.01201 (2024): the minGRU of its section 3.1. For a parallel scan in logarithms the
    paper also passes W x_t + c through a positive function; a sweep needs none.
    The gate z opens to write, so the forget gate of this model is 1 - z.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: Size,
        num_layers: Count,
        init: Init,
        gate_max: Annotated[float, Range(1, 2)] = 1.0,
    ) -> None:
        super().__init__()
        self.shape, self.gate_max = (num_layers, hidden_size), gate_max
        below = [input_size, *[hidden_size] * (num_layers - 1)]
        self.gates = nn.ModuleList(nn.Linear(size, hidden_size) for size in below)  # V, b
        self.values = nn.ModuleList(nn.Linear(size, hidden_size) for size in below)  # W, c
        self.output = nn.Linear(hidden_size, output_size)
        init(self)

    def day(self, index: int, x_t: Tensor, before: State) -> State:
        """Step one layer by a day; its forget gate is 1 - z."""
        a, value = self.gates[index](x_t), self.values[index](x_t)
        is_open = sigmoid(a)  # 1 - z, where gate_max is 1, does not cancel
        forget = sigmoid(-a) - (self.gate_max - 1) * is_open
        return {"h": forget * before["h"] + self.gate_max * is_open * value, "forget": forget}

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return predictions (B, K), from one layer at a time over all days."""
        return self.output(at_last_day(self.sweep(x), lengths))

    def every_day(self, x: Tensor) -> Tensor:
        """Return predictions (B, T, K)."""
        return self.output(self.sweep(x)).transpose(0, 1)

    def sweep(self, x: Tensor) -> Tensor:
        """Map x (B, T, F) to the top layer's h of all days (T, B, H)."""
        days = x.transpose(0, 1)
        for gate, value in zip(self.gates, self.values, strict=True):
            days = linear_recurrence(*Gated.apply(gate(days), value(days), self.gate_max))
        return days

    def gate_biases(self, gate: str) -> list[GateBias]:
        """Return -b as the bias of the forget gate 1 - z, sigmoid(-(V x + b)) if gate_max is 1."""
        linears = self.gates if gate == "forget" else ()
        return [GateBias((linear.get_parameter("bias"),), sign=-1) for linear in linears]


class Gated(torch.autograd.Function):
    """What is kept and what is added, 1 - z and z * n with z = m sigmoid(a), of all days at once.

    Backward, from k = dl/d(1 - z) and w = dl/d(z * n):
        dl/dn = z * w,  dl/da = z (1 - sigmoid(a)) (n * w - k)
    1 - sigmoid(a) is written sigmoid(-a), which is not 0 where sigmoid(a) rounds to 1.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, n: Tensor, m: float) -> tuple[Tensor, Tensor]:
        """Map a and n, each (T, B, H), to 1 - z and z * n."""
        is_open, is_shut = a.sigmoid(), a.neg().sigmoid_()
        kept, z = is_shut.sub(is_open, alpha=m - 1), is_open.mul_(m)
        ctx.save_for_backward(z, is_shut, n)
        return kept, z * n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, at_kept: Tensor, at_added: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients at a and n."""
        z, is_shut, n = ctx.saved_tensors
        at_a = torch.mul(n, at_added).sub_(at_kept).mul_(z).mul_(is_shut)
        return at_a, z * at_added, None
