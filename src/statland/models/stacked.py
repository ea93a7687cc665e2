"""What models with nn.RNN's parameters share: L layers below one linear readout.

B companies, T days, F features a day, K outputs, H hidden units, S state size, L layers.
"""

from collections.abc import Callable
from operator import attrgetter

import torch
from torch import Tensor, nn

from statland.models.base import Layer, RecurrentModel, at_last_day, check_sizes
from statland.models.by_row import Factors, stepped

Init = Callable[[RecurrentModel], None]

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class StackedModel(RecurrentModel):
    """Layers whose weights carry nn.RNN's names, and a linear readout of the top hidden state.

    `recurrence` holds weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, then _l1 and on. The
    state is each part's L layers side by side, the bottom one first, so S = len(parts) * L * H.
    """

    gates: tuple[str, ...] = ()  # the row blocks of each weight matrix; () where there is but one

    def __init__(
        self,
        recurrence: nn.Module,
        hidden_size: int,
        num_layers: int,
        output_size: int,
        init: Init,
    ) -> None:
        super().__init__()
        self.recurrence = recurrence
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.state_size = len(self.parts) * num_layers * hidden_size
        self.output = nn.Linear(hidden_size, output_size)
        self._layer_of = [
            attrgetter(*(f"{name}_l{index}" for name in NAMES)) for index in range(num_layers)
        ]
        init(self)

    def initial_state(self, batch_size: int) -> Tensor:
        """The state before the first day: zeros (B, S)."""
        return self.output.weight.new_zeros(batch_size, self.state_size)

    def readout(self, state: Tensor) -> Tensor:
        """The prediction (B, K) of a state (B, S)."""
        return self.output(last_layer(self.split(state)[0], self.hidden_size))

    def last_hidden(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The top layer's hidden state (B, H) after each company's own last day.

        As nn.RNN, nn.LSTM and nn.GRU have it, which run all days by PyTorch's own kernels.
        """
        days, _ = self.recurrence(x.transpose(0, 1))  # (T, B, H)
        return at_last_day(days, lengths)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Predictions (B, K); equal to unrolling `cell` and reading off each last day."""
        return self.output(self.last_hidden(x, lengths))

    def weight_gradients(self, x: Tensor, before: Tensor, v: Tensor) -> dict[str, Factors]:
        """delta at each bias, and of a matrix delta times what it is multiplied by, row by row.

        delta is autograd's, at biases that every row has its own copy of. A matrix that is computed
        from a parameter of its own, such as exprnn's, stands here under its own name.
        """
        biases = {
            f"recurrence.{name}": bias.detach().expand(len(x), -1).requires_grad_()
            for name, bias in self.recurrence.named_parameters()
            if bias.ndim == 1
        }
        with torch.enable_grad():
            after = stepped(self, biases, x, before)
        deltas = torch.autograd.grad(after, list(biases.values()), v, materialize_grads=True)
        found: dict[str, Factors] = {
            name: (delta,) for name, delta in zip(biases, deltas, strict=True)
        }
        hidden, up = (
            self.split(state)[0].chunk(self.num_layers, dim=-1)
            for state in (before, after.detach())
        )
        for index, (below, h) in enumerate(zip([x, *up], hidden, strict=False)):
            for kind, factor in (("ih", below), ("hh", h)):
                (delta,) = found[f"recurrence.bias_{kind}_l{index}"]
                found[f"recurrence.weight_{kind}_l{index}"] = delta, factor
        return found

    def layer(self, index: int) -> Layer:
        """One layer's parameters."""
        return Layer._make((*self._layer_of[index](self.recurrence), self.gates))

    def layers(self) -> list[Layer]:
        """All layers' parameters, the bottom one first."""
        return [self.layer(index) for index in range(self.num_layers)]


class GatedModel(StackedModel):
    """nn.LSTM or nn.GRU, whichever `module` is: a class that says its gates and its day."""

    module: type[nn.LSTM] | type[nn.GRU]

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int,
        num_layers: int,
        init: Init,
    ) -> None:
        check_sizes(hidden_size, num_layers)
        recurrence = self.module(input_size, hidden_size, num_layers)
        super().__init__(recurrence, hidden_size, num_layers, output_size, init)


def side_by_side(layers: list[Tensor]) -> Tensor:
    """The layers' values (B, H), the bottom one first, as one tensor (B, L * H)."""
    return layers[0] if len(layers) == 1 else torch.cat(layers, dim=-1)


def last_layer(hidden: Tensor, hidden_size: int) -> Tensor:
    """Of all layers' hidden states (B, L * H), the top one's (B, H)."""
    return hidden[:, hidden.shape[1] - hidden_size :]
