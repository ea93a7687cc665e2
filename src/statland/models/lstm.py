"""nn.LSTM, and its day written as equations.

B companies, T days, F features a day, K outputs, H hidden units, S state size, L layers.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from statland.models.activation import sigmoid, sigmoid_slope, tanh, tanh_slope
from statland.models.base import Pullback
from statland.models.stacked import GatedModel, side_by_side


class LSTM(GatedModel):
    """torch.nn.LSTM on right-padded histories, read off at each company's own last day.

    i, f, o = sigmoid(W x_t + b + R h_{t-1}), each with its own rows of W, b and R
    g       = tanh(W x_t + b + R h_{t-1})
    c_t     = f * c_{t-1} + i * g        the long-term memory
    h_t     = o * tanh(c_t)              the short-term memory

    S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997), with
    the forget gate of F. Gers, J. Schmidhuber and F. Cummins, Neural Computation 12 (2000).
    """

    module = nn.LSTM
    gates = ("input", "forget", "cell", "output")
    parts = ("h", "c")

    def cell(self, x_t: Tensor, state: Tensor) -> Tensor:
        """One day: (B, F), (B, S) -> (B, S). S is all L hidden states, then all L cell states."""
        hidden, cells = zip(*(day[1:3] for day in self._layers(x_t, state)), strict=True)
        return torch.cat([*hidden, *cells], dim=-1)

    def activations(self, x: Tensor, state: Tensor) -> dict[str, Tensor]:
        """How far the gates are open, and the cell state, which tanh is taken of: (N, L * H)."""
        _, _, cells, i, f, _, o = (
            side_by_side(list(part)) for part in zip(*self._layers(x, state), strict=True)
        )
        return {"input": i, "forget": f, "output": o, "tanh": cells}

    def pullback(self, x: Tensor, before: Tensor) -> Pullback:
        """The equations above differentiated, the slopes of all days at once.

        With delta = dl/da of the four pre-activations, and c the cell state of day t:

            dl/dc     = what arrives at c + dl/dh * o * tanh'(c)
            delta     = sigmoid'(a_i) g dl/dc,  sigmoid'(a_f) c_{t-1} dl/dc,  tanh'(a_g) i dl/dc,
                        sigmoid'(a_o) tanh(c) dl/dh
            dl/dh_{t-1} = R^T delta,  dl/dc_{t-1} = f * dl/dc,  dl/dx_t = W^T delta
        """
        c_before = self.split(before)[1].chunk(self.num_layers, dim=-1)
        slopes = []
        for (a, _, c, i, f, g, o), c_0 in zip(self._layers(x, before), c_before, strict=True):
            at_i, at_f, _, at_o = sigmoid_slope(a).chunk(4, dim=-1)
            at_g = tanh_slope(a.chunk(4, dim=-1)[2])
            to_gates = torch.stack([at_i * g, at_f * c_0, at_g * i], dim=2)  # (T, B, 3, H)
            slopes.append((o * tanh_slope(c), to_gates, at_o * c.tanh(), f))
        layers = list(zip(slopes, self.layers(), strict=True))[::-1]

        def pull(day: int, v: Tensor) -> tuple[Tensor, Tensor]:
            arriving = (part.chunk(len(layers), dim=-1)[::-1] for part in self.split(v))
            hidden, cells, from_above = [], [], torch.zeros(())
            for (slope, w), at_h, at_c in zip(layers, *arriving, strict=True):
                to_c, to_gates, to_o, f = (values[day] for values in slope)
                at_h = at_h + from_above
                at_c = at_c + at_h * to_c
                delta = torch.cat([(at_c.unsqueeze(-2) * to_gates).flatten(-2), at_h * to_o], -1)
                hidden.append(delta @ w.weight_hh)
                cells.append(at_c * f)
                from_above = delta @ w.weight_ih
            return torch.cat([*hidden[::-1], *cells[::-1]], dim=-1), from_above

        return pull

    def _layers(self, x_t: Tensor, state: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """One day, layer by layer from the bottom: a, and what `lstm_day` makes of it."""
        below = x_t
        before = zip(
            *(part.chunk(self.num_layers, dim=-1) for part in self.split(state)), strict=True
        )
        for index, (h, c) in enumerate(before):
            w = self.layer(index)
            a = linear(below, w.weight_ih, w.bias_ih) + linear(h, w.weight_hh, w.bias_hh)
            below, *rest = lstm_day(a, c)
            yield a, below, *rest


def lstm_day(a: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    """Of pre-activations a (..., 4 * H) and c: the next h and c, and i, f, g, o, each (..., H)."""
    # One call for all gates; the rows of g, which is none, are not used.
    i, f, _, o = sigmoid(a).chunk(4, dim=-1)
    g = tanh(a.chunk(4, dim=-1)[2])
    c = f * c + i * g
    return o * tanh(c), c, i, f, g, o
