"""Models from elsewhere, in the form of base.py so that they can be trained and measured.

B companies, T days, F features a day, K outputs, H hidden units, L layers.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from statland.models.base import RecurrentModel, SequenceModel, State
from statland.models.gru import gru_day
from statland.models.lstm import lstm_day
from statland.models.rnn_cell import rnn_day
from statland.models.stacked import LayeredModel, layer_of

Tensors = Tensor | tuple[Tensor, ...]  # a state in the form that a step takes
Prediction = Callable[[Any], Tensor]  # what a model returns -> (B, K)


def takes_lengths(model: nn.Module) -> bool:
    """Return whether `forward` has an argument of that name."""
    return "lengths" in inspect.signature(model.forward).parameters


def predict(
    model: nn.Module,
    x: Tensor,
    lengths: Tensor,
    prediction: Prediction | None = None,
    inputs: Mapping[str, Any] = {},
) -> Tensor:
    """Call any module; return predictions (B, K). Raises ValueError if they are anything else."""
    given = {"lengths": lengths} if takes_lengths(model) else {}
    found = model(x, **(given | dict(inputs)))
    found = found if prediction is None else prediction(found)
    if isinstance(found, Tensor) and found.ndim == 2 and len(found) == len(x):
        return found
    kind = tuple(found.shape) if isinstance(found, Tensor) else f"a {type(found).__name__}"
    raise ValueError(
        f"{type(model).__name__} returns {kind}; expected predictions ({len(x)}, K), such as "
        "out[:, -1]; gradient_flow takes prediction=lambda out: out.logits[:, -1]"
    )


class Foreign(SequenceModel):
    """Any module that maps x (B, T, F), and lengths if `forward` has them, to predictions (B, K).

    If it takes no lengths, all companies must be of one age.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return predictions (B, K)."""
        return predict(self.module, x, lengths)


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
        self.step, self.read, self.is_tuple = step, readout, isinstance(initial, tuple)
        starts = _tuple(initial)
        self.parts = parts or tuple(map(str, range(len(starts))))
        for name, start in zip(self.parts, starts, strict=True):
            self.register_buffer(f"initial_{name}", start)

    def initial_state(self, batch_size: int) -> State:
        """Return the initial state of every company."""
        starts = {name: self.get_buffer(f"initial_{name}") for name in self.parts}
        return {name: start.expand(batch_size, *start.shape) for name, start in starts.items()}

    def cell(self, x_t: Tensor, state: State) -> State:
        """Step by a day."""
        if isinstance(self.step, nn.RNNCellBase):
            before = dict(zip("hc", state.values(), strict=False))
            day = module_day(self.step, 0, x_t, before)
            after: Tensors = tuple(day[name] for name in before)
        else:
            after = self.step(x_t, self._tensors(state))
        return dict(zip(self.parts, _tuple(after), strict=True))

    def readout(self, state: State) -> Tensor:
        """Return the prediction (B, K) of a state."""
        if self.read is None:
            return state[self.parts[0]].flatten(1)
        return self.read(self._tensors(state))

    def _tensors(self, state: State) -> Tensors:
        tensors = tuple(state[name] for name in self.parts)
        return tensors if self.is_tuple else tensors[0]


class Stepped(LayeredModel):
    """An nn.RNN, nn.LSTM or nn.GRU, or one of their cells; predicts its top hidden state: K = H.

    Raises ValueError for a bidirectional or projected module, which has no single state to step.
    """

    def __init__(self, module: nn.RNNBase | nn.RNNCellBase) -> None:
        if isinstance(module, nn.RNNBase) and (module.bidirectional or module.proj_size):
            raise ValueError(f"{module} is bidirectional or projected: it has no single state")
        super().__init__()
        self.module = module
        self.shape = getattr(module, "num_layers", 1), module.hidden_size
        self.memory = ("h", "c") if isinstance(module, nn.LSTM | nn.LSTMCell) else ("h",)
        self.output = nn.Identity()  # type: ignore[assignment]

    def day(self, index: int, x_t: Tensor, before: State) -> State:
        """Step one layer by a day."""
        return module_day(self.module, index, x_t, before)


def as_recurrence(model: nn.Module, x: Tensor) -> tuple[nn.Module, Tensor]:
    """Return an nn.RNN, nn.LSTM, nn.GRU or a cell as a RecurrentModel, and x as (B, T, F)."""
    if isinstance(model, nn.RNNBase):
        return Stepped(model), x if model.batch_first else x.transpose(0, 1)
    return (Stepped(model) if isinstance(model, nn.RNNCellBase) else model), x


def module_day(
    module: nn.RNNBase | nn.RNNCellBase, index: int, x_t: Tensor, before: State
) -> State:
    """Step one layer of a module by a day, by the equations of the models.

    PyTorch's own kernels give the same values, but slopes of 0 behind saturated units.
    """
    layer = layer_of(module, f"_l{index}" if isinstance(module, nn.RNNBase) else "")
    if isinstance(module, nn.LSTM | nn.LSTMCell):
        return lstm_day(layer, x_t, before)
    if isinstance(module, nn.RNN | nn.RNNCell):
        return rnn_day(module.nonlinearity, layer, x_t, before)
    return gru_day(layer, x_t, before)


def _tuple(tensors: Tensors) -> tuple[Tensor, ...]:
    return tensors if isinstance(tensors, tuple) else (tensors,)
