"""nn.GRU, and its day written as equations.

B companies, T days, F features a day, K outputs, H hidden units, S state size, L layers.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from statland.models.activation import sigmoid, sigmoid_slope, tanh, tanh_slope
from statland.models.base import Pullback
from statland.models.stacked import GatedModel, side_by_side


class GRU(GatedModel):
    """torch.nn.GRU on right-padded histories, read off at each company's own last day.

    r   = sigmoid(W_r x_t + b_r + R_r h_{t-1} + c_r)          the reset gate
    z   = sigmoid(W_z x_t + b_z + R_z h_{t-1} + c_z)          how much of the memory is kept
    n   = tanh(W_n x_t + b_n + r * (R_n h_{t-1} + c_n))       the new value
    h_t = (1 - z) * n + z * h_{t-1}

    K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical
    machine translation", EMNLP 2014, in the form of torch.nn.GRU, whose reset gate acts behind the
    recurrent matrix. Cho et al. call z the update gate; here it is the forget gate, as all over
    this project the gate that multiplies what is remembered is. 1 - z takes the place of an input
    gate: there is none apart.
    """

    module = nn.GRU
    gates = ("reset", "forget", "new")

    def cell(self, x_t: Tensor, state: Tensor) -> Tensor:
        """One day: (B, F), (B, S) -> (B, S)."""
        return side_by_side([day[2] for day in self._layers(x_t, state)])

    def activations(self, x: Tensor, state: Tensor) -> dict[str, Tensor]:
        """How far the gates are open, and the pre-activation of n: (N, L * H)."""
        *_, r, z, _, a_n = (
            side_by_side(list(part)) for part in zip(*self._layers(x, state), strict=True)
        )
        return {"reset": r, "forget": z, "tanh": a_n}

    def pullback(self, x: Tensor, before: Tensor) -> Pullback:
        """The equations above differentiated, the slopes of all days at once.

        With delta = dl/da of the three pre-activations, and v = dl/dh_t:

            delta_n = tanh'(a_n) (1 - z) v
            delta_z = sigmoid'(a_z) (h_{t-1} - n) v
            delta_r = sigmoid'(a_r) (R_n h_{t-1} + c_n) delta_n
            dl/dh_{t-1} = z * v + R^T (delta_r, delta_z, r * delta_n)
            dl/dx_t     = W^T (delta_r, delta_z, delta_n)
        """
        slopes = []
        h_before = before.chunk(self.num_layers, dim=-1)
        for (from_x, from_h, _, r, z, n, a_n), h in zip(
            self._layers(x, before), h_before, strict=True
        ):
            a_r, a_z, _ = (from_x + from_h).chunk(3, dim=-1)
            to_n = tanh_slope(a_n) * sigmoid(-a_z)
            to_r = sigmoid_slope(a_r) * from_h.chunk(3, dim=-1)[2] * to_n
            to_z = sigmoid_slope(a_z) * (h - n)
            above_x = torch.stack([to_r, to_z, to_n], dim=2)  # (T, B, 3, H)
            above_h = torch.stack([to_r, to_z, to_n * r], dim=2)
            slopes.append((above_x, above_h, z))
        layers = list(zip(slopes, self.layers(), strict=True))[::-1]

        def pull(day: int, v: Tensor) -> tuple[Tensor, Tensor]:
            found, from_above = [], torch.zeros(())
            for (slope, w), at_h in zip(layers, v.chunk(len(layers), dim=-1)[::-1], strict=True):
                to_x, to_h, z = (values[day] for values in slope)
                at_h = at_h + from_above
                delta = at_h.unsqueeze(-2)
                found.append(z * at_h + (delta * to_h).flatten(-2) @ w.weight_hh)
                from_above = (delta * to_x).flatten(-2) @ w.weight_ih
            return side_by_side(found[::-1]), from_above

        return pull

    def _layers(self, x_t: Tensor, state: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """One day, layer by layer from the bottom.

        What comes from x and from h_{t-1}, each (..., 3 * H), and what `gru_day` makes of it.
        """
        below = x_t
        for index, h in enumerate(state.chunk(self.num_layers, dim=-1)):
            w = self.layer(index)
            from_x = linear(below, w.weight_ih, w.bias_ih)
            from_h = linear(h, w.weight_hh, w.bias_hh)
            below, *rest = gru_day(from_x, from_h, h)
            yield from_x, from_h, below, *rest


def gru_day(from_x: Tensor, from_h: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    """The next h, then r, z, n and the pre-activation of n, each (..., H).

    from_x and from_h (..., 3 * H) are W x_t + b and R h_{t-1} + c, the rows of r, z and n.
    """
    n_x, n_h = (values.chunk(3, dim=-1)[2] for values in (from_x, from_h))
    a_r, a_z, _ = (from_x + from_h).chunk(3, dim=-1)
    r, z = sigmoid(a_r), sigmoid(a_z)
    a_n = n_x + r * n_h
    n = tanh(a_n)
    # 1 - z is sigmoid(-a), which is not 0 where z is 1 but for rounding.
    return sigmoid(-a_z) * n + z * h, r, z, n, a_n
