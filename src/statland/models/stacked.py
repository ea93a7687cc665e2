"""What models of several layers share, and those among them that have nn.RNN's parameters.

B companies, T days, F features a day, K outputs, H hidden units, L layers.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from statland.models.base import Layer, RecurrentModel, State, at_last_day

Init = Callable[[RecurrentModel], None]


class LayeredModel(RecurrentModel):
    """L layers, each fed by the one below, and a linear readout of what the top layer puts out.

    The state is the memory of all layers, (B, L, ...) each, the bottom layer first. Where a layer
    puts out what is not in its memory, the top layer's (B, H) belongs to the state too.
    """

    memory: tuple[str, ...] = ("h",)  # the names of the tensors that each layer keeps
    out: str = "h"  # the name of what a layer puts out
    shape: tuple[int, ...]  # (L, ...), of all layers' memory
    output: nn.Linear

    @abstractmethod
    def day(self, index: int, x_t: Tensor, before: State) -> State:
        """Step one layer by a day, from its inputs (B, ...) and the memory before it.

        Returns the memory after it, what is put out, and what `activations` returns, by name.
        """

    def days(self, x_t: Tensor, state: State) -> list[State]:
        """Return what `day` returns of each layer, bottom first."""
        days: list[State] = []
        for before in zip(*(state[name].unbind(1) for name in self.memory), strict=True):
            below = days[-1][self.out] if days else x_t
            days.append(self.day(len(days), below, dict(zip(self.memory, before, strict=True))))
        return days

    def initial_state(self, batch_size: int) -> State:
        """Return zeros."""
        zeros = next(self.parameters()).new_zeros
        state = {name: zeros(batch_size, *self.shape) for name in self.memory}
        if self.out not in state:
            state[self.out] = zeros(batch_size, self.output.in_features)
        return state

    def cell(self, x_t: Tensor, state: State) -> State:
        """Step all layers by a day."""
        days = self.days(x_t, state)
        after = stack(days, self.memory)
        after.setdefault(self.out, days[-1][self.out])
        return after

    def activations(self, x: Tensor, state: State) -> State:
        """Return what the units of all layers do: (N, L, ...) each."""
        days = self.days(x, state)
        return stack(days, tuple(name for name in days[0] if name not in state))

    def readout(self, state: State) -> Tensor:
        """Return the prediction (B, K) of what the top layer puts out."""
        top = state[self.out]
        return self.output(top[:, -1] if self.out in self.memory else top)


class StackedModel(LayeredModel):
    """Layers in the form of nn.RNN, nn.LSTM and nn.GRU, held by a module of that kind.

    `recurrence` has the weights weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, then _l1 and
    on, as nn.RNN has, and its num_layers and hidden_size.
    """

    recurrence: Any  # an nn.Module
    gates: tuple[str, ...] = ()  # the row blocks of each weight matrix; () where there is only one

    def __init__(self, recurrence: Any, output_size: int, init: Init) -> None:
        super().__init__()
        self.recurrence = recurrence
        self.shape = recurrence.num_layers, recurrence.hidden_size
        self.output = nn.Linear(recurrence.hidden_size, output_size)
        init(self)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return predictions (B, K), by PyTorch's fused kernels, which run all days at once."""
        days, _ = self.recurrence(x.transpose(0, 1))  # (T, B, H)
        return self.output(at_last_day(days, lengths))

    def every_day(self, x: Tensor) -> Tensor:
        """Return predictions (B, T, K), by the same kernels."""
        return self.output(self.recurrence(x.transpose(0, 1))[0]).transpose(0, 1)

    def recurrent_parameters(self) -> list[nn.Parameter]:
        """Return the weights that multiply h, or what they are computed from."""
        named = self.recurrence.named_parameters()
        return [parameter for name, parameter in named if "weight_hh" in name]

    def layer(self, index: int) -> Layer:
        """Return one layer's parameters."""
        return layer_of(self.recurrence, f"_l{index}", self.gates)

    def layers(self) -> list[Layer]:
        """Return all layers' parameters, bottom first."""
        return [self.layer(index) for index in range(self.shape[0])]


def layer_of(module: nn.Module, suffix: str, gates: tuple[str, ...] = ()) -> Layer:
    """Return the parameters of a module whose names end thus; a bias that it lacks is None."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return Layer._make((*(getattr(module, name + suffix, None) for name in names), gates))


def stack(days: list[State], names: tuple[str, ...]) -> State:
    """Return the tensors of these names, stacked over layers: (B, L, ...) each."""
    return {name: torch.stack([day[name] for day in days], dim=1) for name in names}
