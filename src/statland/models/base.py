"""The contract of a sequence model, and what it means to unroll one over time.

B companies, T days, F features a day, K outputs, H hidden units, S state size, L layers.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from statland.models.by_row import Factors, by_autograd
from statland.settings import SettingError, integer

MOST_WEIGHTS = 2**28  # a GiB


# From a day t of some days, and gradients v (..., B, S) at the state after it: those at the state
# before it, v ds_t/ds_{t-1} (..., B, S), and at the day's input, v ds_t/dx_t (..., B, F).
Pullback = Callable[[int, Tensor], tuple[Tensor, Tensor]]


class Layer(NamedTuple):
    """One recurrent layer in the form of nn.RNN: what it adds up is U x + b_ih + W h + b_hh.

    In a gated layer (nn.LSTM, nn.GRU) each tensor holds the gates' rows one below the other.
    """

    weight_ih: Tensor  # (G * H, F), above the bottom layer (G * H, H)
    weight_hh: Tensor  # (G * H, H)
    bias_ih: Tensor  # (G * H,)
    bias_hh: Tensor  # (G * H,)
    gates: tuple[str, ...] = ()  # the names of its G row blocks; () where there is but one


class GateBias(NamedTuple):
    """The bias of one layer's gate: sigmoid(sign * sum(terms)) is how far it is open at rest."""

    terms: tuple[Tensor, ...]  # (H,) each, views of parameters; only their sum acts
    sign: int = 1

    def set(self, value: Tensor) -> None:
        """Let the gate stand at sigmoid(value), value (H,)."""
        for term in self.terms:
            term.zero_()
        self.terms[0].copy_(self.sign * value)


class SequenceModel(nn.Module, ABC):
    """Predicts the day after each company's last, from histories of any length."""

    @abstractmethod
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Map right-padded x (B, T, F) and lengths (B,) to predictions (B, K)."""


class RecurrentModel(SequenceModel):
    """A sequence model with a feedback loop, whose state after a day is one real tensor (B, S).

    `cell`, `initial_state` and `readout` are the model. The methods below them mean something for
    some models only, and have a default that says "nothing".
    """

    state_size: int  # S
    parts: tuple[str, ...] = ("h",)  # what the state holds side by side

    @abstractmethod
    def initial_state(self, batch_size: int) -> Tensor:
        """The state before the first day (B, S)."""

    @abstractmethod
    def cell(self, x_t: Tensor, state: Tensor) -> Tensor:
        """One day: x_t (B, F) and the state before it (B, S) to the state after it (B, S)."""

    @abstractmethod
    def readout(self, state: Tensor) -> Tensor:
        """The prediction (B, K) of a state (B, S)."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Predictions (B, K): `cell` unrolled, read off at each company's own last day.

        A faster path may take its place; it must give the same numbers.
        """
        return self.readout(at_last_day(unroll(self, x), lengths))

    def pullback(self, x: Tensor, before: Tensor) -> Pullback:
        """Backpropagation through single days; x is (T, B, F), the states before them (T, B, S).

        By autograd through `cell`. A faster way may take its place; it must give the same numbers.
        """

        def pull(day: int, v: Tensor) -> tuple[Tensor, Tensor]:
            state = before[day].expand_as(v).flatten(0, -2).requires_grad_()
            x_t = x[day].expand(*v.shape[:-1], -1).flatten(0, -2).requires_grad_()
            with torch.enable_grad():
                after = self.cell(x_t, state)
            found = torch.autograd.grad(
                after, (state, x_t), v.reshape(after.shape), materialize_grads=True
            )
            return found[0].view_as(v), found[1].view(*v.shape[:-1], -1)

        return pull

    def weight_gradients(self, x: Tensor, before: Tensor, v: Tensor) -> dict[str, Factors]:
        """What each row adds to the gradient of every weight that `cell` uses, by its name.

        x is (N, F), the states before it and the gradients v at those after it are (N, S). By
        autograd through `cell`. A faster way may take its place; it must give the same numbers.
        """
        return by_autograd(self, x, before, v)

    def split(self, state: Tensor) -> tuple[Tensor, ...]:
        """The parts of a state (..., S), in the order of `parts`; by default of equal size."""
        return state.chunk(len(self.parts), dim=-1)

    def layers(self) -> list[Layer]:
        """The layers that have the form of nn.RNN, bottom first, as views of the parameters."""
        return []

    def recurrent_matrices(self) -> dict[str, Tensor]:
        """Each layer's recurrent matrix (H, H), in a gated layer each gate's, by name."""
        matrices = {}
        for index, layer in enumerate(self.layers()):
            blocks = layer.weight_hh.detach().chunk(max(1, len(layer.gates)))
            names = [f"_{gate}" for gate in layer.gates] or [""]
            for name, block in zip(names, blocks, strict=True):
                matrices[f"weight_hh_l{index}{name}"] = block
        return matrices

    def gate_biases(self, gate: str) -> list[GateBias]:
        """The bias of that gate in every layer; [] where there is no such gate.

        "forget" is the gate that multiplies what is remembered, whatever the paper calls it;
        "input", where there is one apart, multiplies what today adds.
        """
        found = []
        for layer in self.layers():
            if gate in layer.gates:
                place, count = layer.gates.index(gate), len(layer.gates)
                terms = (bias.chunk(count)[place] for bias in (layer.bias_ih, layer.bias_hh))
                found.append(GateBias(tuple(terms)))
        return found

    def activations(self, x: Tensor, state: Tensor) -> dict[str, Tensor]:
        """What the units of a day do, by name: x (N, F), the states before it (N, S) to (N, units).

        tanh, relu: the pre-activations, which that nonlinearity is taken of. Any other name: how
        far that gate is open, from 0 to 1.
        """
        return {}

    def linear_recurrence(self) -> Tensor | None:
        """The matrix ds_t/ds_{t-1} (S, S) where all units are active, if every day has the same."""
        return None


def check_sizes(hidden_size: int, num_layers: int) -> None:
    """Raise SettingError where a model of these sizes cannot be, or would not fit into memory."""
    integer("model.hidden_size", hidden_size, 1, 2**14)
    integer("model.num_layers", num_layers, 1, 1000)
    check_weights(
        f"model.num_layers {num_layers} of model.hidden_size {hidden_size} are",
        num_layers * hidden_size**2,
        "recurrent weights",
    )


def check_weights(sizes: str, count: int, kind: str = "weights") -> None:
    """Raise SettingError, which begins with the sizes, where so many would not fit into memory."""
    if count > MOST_WEIGHTS:
        raise SettingError(f"{sizes} {count:.2g} {kind}; allowed: at most {MOST_WEIGHTS:.2g}")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set a model to evaluation mode, so without dropout; afterwards all is as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


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
