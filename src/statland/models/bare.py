"""Recurrences from elsewhere, seen through the contract of base.py so that they can be measured.

B companies, F features a day, H hidden units, S state size, L layers.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from statland.models.activation import tanh
from statland.models.base import RecurrentModel
from statland.models.gru import gru_day
from statland.models.lstm import lstm_day
from statland.models.stacked import last_layer

State = Tensor | tuple[Tensor, ...]


def one_day(
    mode: str, x_t: Tensor, before: tuple[Tensor, ...], weights: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """One layer's day by the equations of nn.RNN, nn.LSTM and nn.GRU: (h,) or (h, c), each (B, H).

    torch.rnn_tanh_cell and its like give the same values, but slopes that cancel.
    """
    weight_ih, weight_hh, *biases = weights
    bias_ih, bias_hh = biases or (None, None)
    h, *c = before
    from_x, from_h = linear(x_t, weight_ih, bias_ih), linear(h, weight_hh, bias_hh)
    if mode == "LSTM":
        return lstm_day(from_x + from_h, *c)[:2]
    if mode == "GRU":
        return gru_day(from_x, from_h, h)[:1]
    return (tanh(from_x + from_h) if mode == "RNN_TANH" else torch.relu(from_x + from_h),)


class Bare(RecurrentModel):
    """An nn.RNN, nn.LSTM or nn.GRU, its own weights stepped a day at a time.

    The prediction is the top layer's hidden state: K = H. Raises ValueError for what has no one
    state to step: a bidirectional or projected module.
    """

    def __init__(self, module: nn.RNNBase) -> None:
        super().__init__()
        if module.bidirectional or module.proj_size:
            raise ValueError(f"{module} is bidirectional or projected: it has no one state to step")
        self.recurrence = module
        self.parts = ("h", "c") if module.mode == "LSTM" else ("h",)
        self.state_size = len(self.parts) * module.num_layers * module.hidden_size

    def initial_state(self, batch_size: int) -> Tensor:
        """Zeros (B, S)."""
        return next(self.recurrence.parameters()).new_zeros(batch_size, self.state_size)

    def cell(self, x_t: Tensor, state: Tensor) -> Tensor:
        """One day: (B, F), (B, S) -> (B, S)."""
        count = self.recurrence.num_layers
        layers = zip(*(p.chunk(count, 1) for p in self.split(state)), strict=True)
        below, after = x_t, []
        for before, weights in zip(layers, self.recurrence.all_weights, strict=True):
            after.append(one_day(self.recurrence.mode, below, before, weights))
            below = after[-1][0]
        return torch.cat([layer for part in zip(*after, strict=True) for layer in part], dim=1)

    def readout(self, state: Tensor) -> Tensor:
        """The top hidden state (B, H)."""
        return last_layer(self.split(state)[0], self.recurrence.hidden_size)


class CellByEquations(nn.Module):
    """The step of an nn.RNNCell, nn.LSTMCell or nn.GRUCell, written as equations."""

    def __init__(self, cell: nn.RNNCellBase) -> None:
        super().__init__()
        self.cell = cell
        if isinstance(cell, nn.RNNCell):
            self.mode = f"RNN_{cell.nonlinearity.upper()}"
        else:
            self.mode = "LSTM" if isinstance(cell, nn.LSTMCell) else "GRU"

    def forward(self, x_t: Tensor, state: State) -> State:
        """x_t (B, F) and h, or (h, c), each (B, H), to the same a day later."""
        w = self.cell
        weights = [p for p in (w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh) if p is not None]
        if isinstance(state, tuple):
            return one_day(self.mode, x_t, state, weights)
        return one_day(self.mode, x_t, (state,), weights)[0]


class Recurrence(RecurrentModel):
    """Any step (x_t, state) -> state and a readout, so that its gradient flow can be measured.

        Recurrence(nn.GRUCell(3, 64), nn.Linear(64, 1), torch.zeros(64))
        Recurrence(step, lambda s: s[0], (torch.zeros(64), torch.zeros(64)))

    `initial` is one company's state before its first day, without a batch dimension: a tensor or a
    tuple of tensors, of any shapes; `step` gets and returns (B, ...) in that form, and `readout`
    maps it to predictions (B, K); by default the prediction is the state, of a tuple its first.
    A tuple's tensors become the parts "0", "1", ... of the flow, or what `parts` calls them.
    Measurements run in float64: parameters of modules are converted; a plain function has to take
    float64 itself. A slope is what autograd makes of `step`: behind its own torch.tanh it is 0 from
    a = 19 on; statland.models.activation has a tanh and a sigmoid whose slopes are right. Of an
    nn.RNNCell, nn.LSTMCell or nn.GRUCell they are right as it comes.
    """

    def __init__(
        self,
        step: Callable[[Tensor, Any], State],
        readout: Callable[[Any], Tensor] | None = None,
        initial: State = (),
        parts: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__()
        self.step = CellByEquations(step) if isinstance(step, nn.RNNCellBase) else step
        self.read = readout
        self.is_tuple = isinstance(initial, tuple)
        tensors = initial if isinstance(initial, tuple) else (initial,)
        if not tensors:
            raise ValueError("initial is (); allowed: a tensor, or a tuple of tensors")
        self.shapes = [tensor.shape for tensor in tensors]
        self.sizes = [tensor.numel() for tensor in tensors]
        self.state_size = sum(self.sizes)
        self.register_buffer("initial", torch.cat([tensor.flatten() for tensor in tensors]))
        self.parts = parts or tuple(map(str, range(len(tensors))))
        if len(self.parts) != len(tensors):
            raise ValueError(f"parts names {len(self.parts)} of {len(tensors)} tensors")

    def initial_state(self, batch_size: int) -> Tensor:
        """The initial state of every company (B, S)."""
        start = self.get_buffer("initial")
        return start.expand(batch_size, -1)

    def split(self, state: Tensor) -> tuple[Tensor, ...]:
        """The tuple's tensors, flat: (..., size) each."""
        return state.split(self.sizes, dim=-1)

    def cell(self, x_t: Tensor, state: Tensor) -> Tensor:
        """One day: (B, F), (B, S) -> (B, S)."""
        after = self.step(x_t, self._unpacked(state))
        tensors = after if isinstance(after, tuple) else (after,)
        return torch.cat([tensor.reshape(len(x_t), -1) for tensor in tensors], dim=1)

    def readout(self, state: Tensor) -> Tensor:
        """The prediction (B, K) of a state (B, S)."""
        unpacked = self._unpacked(state)
        if self.read is None:
            first = unpacked[0] if isinstance(unpacked, tuple) else unpacked
            return first.reshape(len(state), -1)
        return self.read(unpacked)

    def _unpacked(self, state: Tensor) -> State:
        """A state (B, S) in the form that `step` takes."""
        tensors = tuple(
            part.reshape(-1, *shape)
            for part, shape in zip(self.split(state), self.shapes, strict=True)
        )
        return tensors if self.is_tuple else tensors[0]


def stepped_cell(cell: nn.RNNCellBase) -> Recurrence:
    """An nn.RNNCell, nn.GRUCell or nn.LSTMCell; the prediction is its hidden state: K = H."""
    zeros = cell.weight_hh.new_zeros(cell.hidden_size)
    if isinstance(cell, nn.LSTMCell):
        return Recurrence(cell, initial=(zeros, zeros), parts=("h", "c"))
    return Recurrence(cell, initial=zeros, parts=("h",))
