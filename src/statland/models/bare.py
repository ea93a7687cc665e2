"""Recurrences from elsewhere, in the form of base.py so that they can be measured.

B companies, F features a day, H hidden units, L layers.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from statland.models.base import Layer, RecurrentModel, State
from statland.models.gru import gru_day
from statland.models.lstm import lstm_day
from statland.models.rnn_cell import rnn_day
from statland.models.stacked import NAMES, stack_layers, step_layers

Tensors = Tensor | tuple[Tensor, ...]  # a state in the form that a step takes


class Recurrence(RecurrentModel):
    """Any step (x_t, state) -> state and a readout, so that its gradient flow can be measured.

        Recurrence(nn.GRUCell(3, 64), nn.Linear(64, 1), torch.zeros(64))
        Recurrence(step, lambda s: s[0], (torch.zeros(64), torch.zeros(64)))

    `initial` is one company's state before its first day, without a batch dimension: a tensor or a
    tuple of tensors, of any shapes. `step` takes and returns (B, ...) in that form, and `readout`
    maps it to predictions (B, K); by default the prediction is the state, of a tuple its first
    tensor. The flow names a tuple's tensors "0", "1", ..., or as `parts` does.

    Measurements run in float64: parameters of modules are converted, while a plain function has to
    take float64 itself. Slopes are those of autograd through `step`: behind torch.tanh they are 0
    from a = 19 on. They are right behind the functions of statland.models.activation, and in an
    nn.RNNCell, nn.LSTMCell or nn.GRUCell, which is stepped by its equations.
    """

    def __init__(
        self,
        step: Callable[[Tensor, Any], Tensors],
        readout: Callable[[Any], Tensor] | None = None,
        initial: Tensors = (),
        parts: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__()
        self.step = ByEquations(step) if isinstance(step, nn.RNNCellBase) else step
        self.read = readout
        self.is_tuple = isinstance(initial, tuple)
        starts = _tuple(initial)
        if not starts:
            raise ValueError("initial is (); allowed: a tensor, or a tuple of tensors")
        self.parts = parts or tuple(map(str, range(len(starts))))
        if len(self.parts) != len(starts):
            raise ValueError(f"parts has {len(self.parts)} names for {len(starts)} tensors")
        for index, start in enumerate(starts):
            self.register_buffer(f"initial_{index}", start)

    def initial_state(self, batch_size: int) -> State:
        """Return the initial state of every company."""
        starts = [self.get_buffer(f"initial_{index}") for index in range(len(self.parts))]
        expanded = (start.expand(batch_size, *start.shape) for start in starts)
        return dict(zip(self.parts, expanded, strict=True))

    def cell(self, x_t: Tensor, state: State) -> State:
        """Step by a day."""
        return dict(zip(self.parts, _tuple(self.step(x_t, self._tensors(state))), strict=True))

    def readout(self, state: State) -> Tensor:
        """Return the prediction (B, K) of a state."""
        if self.read is None:
            first = state[self.parts[0]]
            return first.reshape(len(first), -1)
        return self.read(self._tensors(state))

    def _tensors(self, state: State) -> Tensors:
        tensors = tuple(state[name] for name in self.parts)
        return tensors if self.is_tuple else tensors[0]


class ByEquations(nn.Module):
    """The step of an nn.RNN, nn.LSTM or nn.GRU, or of one of their cells, by the models' equations.

    PyTorch's own kernels give the same values, but slopes of 0 behind saturated units.
    """

    def __init__(self, module: nn.RNNBase | nn.RNNCellBase) -> None:
        super().__init__()
        self.module = module
        self.day: Callable[[Layer, Tensor, State], State] = gru_day
        if isinstance(module, nn.LSTM | nn.LSTMCell):
            self.day = lstm_day
        elif isinstance(module, nn.RNN | nn.RNNCell):
            self.day = partial(rnn_day, module.nonlinearity)

    def forward(self, x_t: Tensor, state: Tensors) -> Tensors:
        """Map x_t (B, F) and h or (h, c), (B, L, H) or of a cell (B, H) each, to the day after."""
        tensors = _tuple(state)
        layered = (tensor.reshape(len(x_t), -1, self.module.hidden_size) for tensor in tensors)
        before = dict(zip("hc", layered, strict=False))
        days = step_layers(lambda index, *rest: self.day(self._layer(index), *rest), x_t, before)
        after = tuple(t.view_as(tensors[0]) for t in stack_layers(days, before).values())
        return after if isinstance(state, tuple) else after[0]

    def _layer(self, index: int) -> Layer:
        """Return one layer's parameters; a bias that the module lacks is None."""
        suffix = f"_l{index}" if isinstance(self.module, nn.RNNBase) else ""
        weights = (getattr(self.module, f"{name}{suffix}", None) for name in NAMES)
        return Layer._make((*weights, ()))


def stepped(module: nn.RNNBase | nn.RNNCellBase) -> Recurrence:
    """Return an nn.RNN, nn.LSTM or nn.GRU, or one of their cells, as a model with a state.

    It predicts its (top layer's) hidden state: K = H. Raises ValueError for a bidirectional or
    projected module, which has no single state to step.
    """
    size = module.hidden_size
    shape: tuple[int, ...] = (size,)
    if isinstance(module, nn.RNNBase):
        if module.bidirectional or module.proj_size:
            raise ValueError(f"{module} is bidirectional or projected: it has no single state")
        shape = (module.num_layers, size)
    parts = ("h", "c") if isinstance(module, nn.LSTM | nn.LSTMCell) else ("h",)
    initial = tuple(next(module.parameters()).new_zeros(shape) for _ in parts)
    return Recurrence(ByEquations(module), lambda s: s[0].flatten(1)[:, -size:], initial, parts)


def _tuple(tensors: Tensors) -> tuple[Tensor, ...]:
    return tensors if isinstance(tensors, tuple) else (tensors,)
