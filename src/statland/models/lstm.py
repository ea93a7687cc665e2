"""nn.LSTM, and its day written as equations.

B companies, T days, F features a day, K outputs, H hidden units, S state size, L layers.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from statland.models.base import RecurrentModel, at_last_day
from statland.settings import whole


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

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int,
        num_layers: int,
        init: Callable[[RecurrentModel], None],
    ) -> None:
        whole("model.hidden_size", hidden_size, 1)
        whole("model.num_layers", num_layers, 1)
        recurrence = nn.LSTM(input_size, hidden_size, num_layers)
        super().__init__(recurrence, hidden_size, num_layers, output_size, init)

    @property
    def state_size(self) -> int:
        """S: all L hidden states, then all L cell states."""
        return 2 * self.num_layers * self.hidden_size

    def cell(self, x_t: Tensor, state: Tensor) -> Tensor:
        """One day: (B, F), (B, S) -> (B, S)."""
        hidden, cells = (half.chunk(self.num_layers, dim=-1) for half in state.chunk(2, dim=-1))
        below, hidden_after, cells_after = x_t, [], []
        for index, (h, c) in enumerate(zip(hidden, cells, strict=True)):
            w = self.layer(index)
            a = linear(below, w["weight_ih"], w["bias_ih"]) + linear(
                h, w["weight_hh"], w["bias_hh"]
            )
            i, f, g, o = a.chunk(4, dim=-1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            below = o.sigmoid() * c.tanh()
            hidden_after.append(below)
            cells_after.append(c)
        return torch.cat(hidden_after + cells_after, dim=-1)

    def last_hidden(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The top hidden state (B, H) after each company's own last day."""
        days, _ = self.recurrence(x.transpose(0, 1))  # (T, B, H)
        return at_last_day(days, lengths)
