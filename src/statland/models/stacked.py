"""What models of several layers share, and those among them that have nn.RNN's parameters.

B companies, T days, F features a day, K outputs, H hidden units, L layers.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from statland.models.base import Layer, RecurrentModel, State, at_last_day
from statland.settings import Count, Size

Init = Callable[[RecurrentModel], None]

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class LayeredModel(RecurrentModel):
    """L layers of H units, each fed by the one below, and a linear readout of the top layer's h.

    Each tensor of the state is (B, L, H), the bottom layer first.
    """

    parts: tuple[str, ...] = ("h",)  # the names of the state's tensors

    hidden_size: int
    num_layers: int
    output: nn.Linear

    @abstractmethod
    def day(self, index: int, x_t: Tensor, before: State) -> State:
        """Step one layer by a day, from its inputs and the state before it, (B, H) each.

        Returns the state after it, and what its units did, by the names of `activations`.
        """

    def initial_state(self, batch_size: int) -> State:
        """Return zeros (B, L, H)."""
        shape = batch_size, self.num_layers, self.hidden_size
        return {name: self.output.weight.new_zeros(shape) for name in self.parts}

    def cell(self, x_t: Tensor, state: State) -> State:
        """Step all layers by a day."""
        return stack_layers(step_layers(self.day, x_t, state), state)

    def activations(self, x: Tensor, state: State) -> State:
        """Return what the units of all layers do: (N, L, H) each."""
        days = step_layers(self.day, x, state)
        return stack_layers(days, [name for name in days[0] if name not in state])

    def readout(self, state: State) -> Tensor:
        """Return the prediction (B, K) of the top layer's h."""
        return self.output(state["h"][:, -1])


class StackedModel(LayeredModel):
    """Layers in the form of nn.RNN, nn.LSTM and nn.GRU, held by a module of that kind.

    `recurrence` has the weights weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, then _l1 and
    on, as nn.RNN has.
    """

    gates: tuple[str, ...] = ()  # the row blocks of each weight matrix; () where there is only one

    def __init__(
        self, recurrence: nn.Module, hidden_size: int, num_layers: int, output_size: int, init: Init
    ) -> None:
        super().__init__()
        self.recurrence = recurrence
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.output = nn.Linear(hidden_size, output_size)
        init(self)

    def last_hidden(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the top layer's hidden state (B, H) after each company's own last day.

        By the fused kernels of nn.RNN, nn.LSTM and nn.GRU, which run all days at once.
        """
        days, _ = self.recurrence(x.transpose(0, 1))  # (T, B, H)
        return at_last_day(days, lengths)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return predictions (B, K)."""
        return self.output(self.last_hidden(x, lengths))

    def layer(self, index: int) -> Layer:
        """Return one layer's parameters."""
        weights = (getattr(self.recurrence, f"{name}_l{index}") for name in NAMES)
        return Layer._make((*weights, self.gates))

    def layers(self) -> list[Layer]:
        """Return all layers' parameters, bottom first."""
        return [self.layer(index) for index in range(self.num_layers)]


class GatedModel(StackedModel):
    """An nn.LSTM or nn.GRU. A subclass states which, its gates and its day."""

    module: type[nn.LSTM] | type[nn.GRU]

    def __init__(
        self, input_size: int, output_size: int, hidden_size: Size, num_layers: Count, init: Init
    ) -> None:
        recurrence = self.module(input_size, hidden_size, num_layers)
        super().__init__(recurrence, hidden_size, num_layers, output_size, init)


def from_x(layer: Layer, x_t: Tensor) -> Tensor:
    """Return U x_t + b_ih (B, G * H)."""
    return linear(x_t, layer.weight_ih, layer.bias_ih)


def from_h(layer: Layer, h: Tensor) -> Tensor:
    """Return W h + b_hh (B, G * H)."""
    return linear(h, layer.weight_hh, layer.bias_hh)


def step_layers(
    day: Callable[[int, Tensor, State], State], x_t: Tensor, state: State, up: str = "h"
) -> list[State]:
    """Step layer by layer, bottom first; return what `day` returns of each.

    x_t (B, ...) is the bottom layer's input, and `up` names what a layer feeds to the one above.
    Each tensor of the state is (B, L, ...).
    """
    days: list[State] = []
    for index, before in enumerate(zip(*(part.unbind(1) for part in state.values()), strict=True)):
        below = days[-1][up] if days else x_t
        days.append(day(index, below, dict(zip(state, before, strict=True))))
    return days


def stack_layers(days: list[State], names: Iterable[str]) -> State:
    """Return the tensors of these names, stacked over layers: (B, L, ...) each."""
    return {name: torch.stack([day[name] for day in days], dim=1) for name in names}
