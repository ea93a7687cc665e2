"""The contract of a sequence model, and what it means to unroll one over time.

B companies, T days, F features a day, K outputs, H hidden units, S state size, L layers.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple

import torch
from torch import Tensor, nn

from statland.settings import SettingError, whole

MOST_WEIGHTS = 2**28  # a GiB


class Layer(NamedTuple):
    """The parameters of one recurrent layer, under nn.RNN's names; in an LSTM gate below gate."""

    weight_ih: Tensor  # (H, F), above the bottom layer (H, H)
    weight_hh: Tensor  # (H, H)
    bias_ih: Tensor  # (H,)
    bias_hh: Tensor  # (H,)


def check_sizes(hidden_size: int, num_layers: int) -> None:
    """Raise SettingError where a model of these sizes cannot be, or would not fit into memory."""
    whole("model.hidden_size", hidden_size, 1, 2**14)
    whole("model.num_layers", num_layers, 1, 1000)
    if num_layers * hidden_size**2 > MOST_WEIGHTS:
        raise SettingError(
            f"model.num_layers {num_layers} of model.hidden_size {hidden_size} are "
            f"{num_layers * hidden_size**2:.2g} recurrent weights; allowed: at most "
            f"{MOST_WEIGHTS:.2g}"
        )


class SequenceModel(nn.Module, ABC):
    """Predicts the day after each company's last, from histories of any length."""

    @abstractmethod
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Map right-padded x (B, T, F) and lengths (B,) to predictions (B, K)."""


class RecurrentModel(SequenceModel):
    """A sequence model with a feedback loop, whose state after a day is one tensor (B, S).

    `recurrence` holds the weights of the L layers under nn.RNN's names: weight_ih_l0,
    weight_hh_l0, bias_ih_l0, bias_hh_l0, then _l1 and on. `output` reads the prediction off the
    top layer's hidden state.
    """

    gates: tuple[str, ...] = ()  # the row blocks of each weight matrix; () where there is but one
    parts: tuple[str, ...] = ("h",)  # what the state holds side by side, each of all L layers

    def __init__(
        self,
        recurrence: nn.Module,
        hidden_size: int,
        num_layers: int,
        output_size: int,
        init: "Callable[[RecurrentModel], None]",
    ) -> None:
        super().__init__()
        self.recurrence = recurrence
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.output = nn.Linear(hidden_size, output_size)
        self._layers_of = [
            attrgetter(*(f"{name}_l{index}" for name in Layer._fields))
            for index in range(num_layers)
        ]
        init(self)

    @property
    def state_size(self) -> int:
        """S: for each part of the state L times H, layer 0 first."""
        return len(self.parts) * self.num_layers * self.hidden_size

    def split(self, state: Tensor) -> tuple[Tensor, ...]:
        """The parts of a state (..., S), each (..., L * H)."""
        return state.chunk(len(self.parts), dim=-1)

    def initial_state(self, batch_size: int) -> Tensor:
        """The state before the first day: zeros (B, S)."""
        return self.output.weight.new_zeros(batch_size, self.state_size)

    @abstractmethod
    def cell(self, x_t: Tensor, state: Tensor) -> Tensor:
        """One day: x_t (B, F) and the state before it (B, S) to the state after it (B, S)."""

    def readout(self, state: Tensor) -> Tensor:
        """The prediction (B, K) of a state (B, S)."""
        return self.output(last_layer(self.split(state)[0], self.hidden_size))

    def activations(self, x: Tensor, state: Tensor) -> dict[str, Tensor]:
        """What the units of a day do, by name: x (N, F), the states before it (N, S) to (N, L * H).

        tanh, relu: the values after that nonlinearity. A gate's name: how far it is open.
        """
        return {}

    def linear_recurrence(self) -> Tensor | None:
        """The matrix ds_t/ds_{t-1} where all units are active, if it is the same every day."""
        return None

    @abstractmethod
    def last_hidden(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The top layer's hidden state (B, H) after each company's own last day."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Predictions (B, K); equal to unrolling `cell` and reading off each last day."""
        return self.output(self.last_hidden(x, lengths))

    def layer(self, index: int) -> Layer:
        """One layer's parameters."""
        return Layer(*self._layers_of[index](self.recurrence))


def last_layer(hidden: Tensor, hidden_size: int) -> Tensor:
    """Of all layers' hidden states (B, L * H), the top one's (B, H)."""
    return hidden[:, hidden.shape[1] - hidden_size :]


def at_last_day(days: Tensor, lengths: Tensor) -> Tensor:
    """Of time-major values (T, B, H), take each company's own last day: (B, H)."""
    return days[lengths - 1, torch.arange(days.shape[1], device=days.device)]


def unroll(model: RecurrentModel, x: Tensor) -> Tensor:
    """Step `model.cell` over x (B, T, F), a day at a time; return all states (T, B, S)."""
    state = model.initial_state(len(x))
    states = []
    for x_t in x.unbind(1):
        state = model.cell(x_t, state)
        states.append(state)
    return torch.stack(states)
