"""nn.LSTM, and its day written as equations.

B companies, T days, F features a day, K outputs, H hidden units, S state size, L layers.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from statland.models.base import RecurrentModel, at_last_day, check_sizes


class LSTM(RecurrentModel):
    """torch.nn.LSTM on right-padded histories, read off at each company's own last day.

    i, f, o = sigmoid(W x_t + b + R h_{t-1}), each with its own rows of W, b and R
    g       = tanh(W x_t + b + R h_{t-1})
    c_t     = f * c_{t-1} + i * g        the long-term memory
    h_t     = o * tanh(c_t)              the short-term memory

    S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997), with
    the forget gate of F. Gers, J. Schmidhuber and F. Cummins, Neural Computation 12 (2000).
    """

    gates = ("input", "forget", "cell", "output")
    parts = ("h", "c")

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int,
        num_layers: int,
        init: Callable[[RecurrentModel], None],
    ) -> None:
        check_sizes(hidden_size, num_layers)
        recurrence = nn.LSTM(input_size, hidden_size, num_layers)
        super().__init__(recurrence, hidden_size, num_layers, output_size, init)

    def cell(self, x_t: Tensor, state: Tensor) -> Tensor:
        """One day: (B, F), (B, S) -> (B, S). S is all L hidden states, then all L cell states."""
        hidden, cells, *_ = zip(*self._layers(x_t, state), strict=True)
        return torch.cat([*hidden, *cells], dim=-1)

    def activations(self, x: Tensor, state: Tensor) -> dict[str, Tensor]:
        """How far the gates are open, and tanh of the cell state: each (N, L * H)."""
        _, cells, i, f, o = (
            torch.cat(part, -1) for part in zip(*self._layers(x, state), strict=True)
        )
        return {"input": i, "forget": f, "output": o, "tanh": cells.tanh()}

    def _layers(self, x_t: Tensor, state: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """One day, layer by layer from the bottom: h, c, and the gates i, f, o."""
        below = x_t
        before = zip(
            *(part.chunk(self.num_layers, dim=-1) for part in self.split(state)), strict=True
        )
        for index, (h, c) in enumerate(before):
            w = self.layer(index)
            from_below = linear(below, w.weight_ih, w.bias_ih)
            a = from_below + linear(h, w.weight_hh, w.bias_hh)
            i, f, g, o = a.chunk(4, dim=-1)
            i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
            c = f * c + i * g
            below = o * c.tanh()
            yield below, c, i, f, o

    def last_hidden(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The top hidden state (B, H) after each company's own last day."""
        days, _ = self.recurrence(x.transpose(0, 1))  # (T, B, H)
        return at_last_day(days, lengths)
