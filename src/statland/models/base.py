"""The contract of a sequence model, and what it means to unroll one over time.

B companies, T days, F features a day, K outputs, H hidden units, S state size, L layers.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn


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
        init(self)

    @property
    def state_size(self) -> int:
        """S: the L hidden states side by side, layer 0 first."""
        return self.num_layers * self.hidden_size

    def initial_state(self, batch_size: int) -> Tensor:
        """The state before the first day: zeros (B, S)."""
        return self.output.weight.new_zeros(batch_size, self.state_size)

    @abstractmethod
    def cell(self, x_t: Tensor, state: Tensor) -> Tensor:
        """One day: x_t (B, F) and the state before it (B, S) to the state after it (B, S)."""

    def readout(self, state: Tensor) -> Tensor:
        """The prediction (B, K) of a state (B, S)."""
        top = self.num_layers * self.hidden_size
        return self.output(state[:, top - self.hidden_size : top])

    @abstractmethod
    def last_hidden(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The top layer's hidden state (B, H) after each company's own last day."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Predictions (B, K); equal to unrolling `cell` and reading off each last day."""
        return self.output(self.last_hidden(x, lengths))

    def layer(self, index: int) -> dict[str, Tensor]:
        """One layer's parameters under nn.RNN's names without the layer: weight_ih and so on."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return {name: getattr(self.recurrence, f"{name}_l{index}") for name in names}


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
