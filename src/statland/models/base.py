"""The contract of a sequence model, and what it means to unroll one over time.

B companies, T days, F features a day, K outputs, H hidden units.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from statland.batch import Batch

State = dict[str, Tensor]  # named tensors, (B, ...) each


class Layer(NamedTuple):
    """One recurrent layer in the form of nn.RNN: its pre-activation is U x + b_ih + W h + b_hh.

    In a gated layer (nn.LSTM, nn.GRU) each tensor holds the gates' rows one below the other.
    """

    weight_ih: Tensor  # (G * H, F), above the bottom layer (G * H, H)
    weight_hh: Tensor  # (G * H, H)
    bias_ih: Tensor  # (G * H,)
    bias_hh: Tensor  # (G * H,)
    gates: tuple[str, ...] = ()  # the names of its G row blocks; () where there is only one

    def pre_activation(self, x_t: Tensor, h: Tensor) -> Tensor:
        """Return U x + b_ih + W h + b_hh, (B, G * H)."""
        return linear(x_t, self.weight_ih, self.bias_ih) + linear(h, self.weight_hh, self.bias_hh)


class GateBias(NamedTuple):
    """The bias of one layer's gate; the gate itself is sigmoid(sign * sum(terms)) at rest."""

    terms: tuple[Tensor, ...]  # (H,) each, views of parameters; only their sum acts
    sign: int = 1

    def set(self, value: Tensor) -> None:
        """Set the bias so that the gate is open by sigmoid(value), value (H,)."""
        for term in self.terms:
            term.zero_()
        self.terms[0].copy_(self.sign * value)


class SequenceModel(nn.Module, ABC):
    """Predicts the day after each company's last, from histories of any length."""

    def __call__(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Run `forward` on x whose padding is 0, as 0 times a nan there would be nan."""
        prediction: Tensor = super().__call__(without_padding(x, lengths), lengths)
        return prediction

    @abstractmethod
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Map right-padded x (B, T, F) and lengths (B,) to predictions (B, K)."""

    def every_day(self, x: Tensor) -> Tensor:
        """Map x (B, T, F) to predictions (B, T, K), each from the days up to its own.

        Optional: markets that ask every day need it.
        """
        raise NotImplementedError

    def recurrent_parameters(self) -> list[nn.Parameter]:
        """Return the parameters to which `optimizer.lr_of.recurrent` gives a rate of their own."""
        return []


class RecurrentModel(SequenceModel):
    """A sequence model with a feedback loop: `initial_state`, `cell` and `readout` are the model.

    Everything else is optional. `forward` may be overridden for speed; results must match.
    """

    @abstractmethod
    def initial_state(self, batch_size: int) -> State:
        """Return the state before the first day."""

    @abstractmethod
    def cell(self, x_t: Tensor, state: State) -> State:
        """Map the inputs of one day (B, F) and the state before it to the state after it."""

    @abstractmethod
    def readout(self, state: State) -> Tensor:
        """Map a state to predictions (B, K)."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return predictions (B, K): `cell` unrolled, read off at each company's own last day."""
        states = unroll(self, x)
        return self.readout({name: at_last_day(days, lengths) for name, days in states.items()})

    def every_day(self, x: Tensor) -> Tensor:
        """Return predictions (B, T, K): `cell` unrolled, read out after every day."""
        states = unroll(self, x)
        flat = {name: days.flatten(0, 1) for name, days in states.items()}  # (T * B, ...)
        return self.readout(flat).unflatten(0, (x.shape[1], len(x))).transpose(0, 1)

    def layers(self) -> list[Layer]:
        """Return the layers that have the form of nn.RNN, bottom first, as views of parameters."""
        return []

    def recurrent_matrices(self) -> dict[str, Tensor]:
        """Return each layer's recurrent matrix (H, H), in a gated layer each gate's, by name."""
        matrices = {}
        for index, layer in enumerate(self.layers()):
            blocks = layer.weight_hh.detach().chunk(max(1, len(layer.gates)))
            names = [f"_{gate}" for gate in layer.gates] or [""]
            for name, block in zip(names, blocks, strict=True):
                matrices[f"weight_hh_l{index}{name}"] = block
        return matrices

    def gate_biases(self, gate: str) -> list[GateBias]:
        """Return the bias of a gate in every layer; [] if there is no such gate.

        "forget" is the gate that multiplies what is remembered, whatever the paper calls it;
        "input", if it is a gate of its own, multiplies what today adds.
        """
        found = []
        for layer in self.layers():
            if gate in layer.gates:
                place, count = layer.gates.index(gate), len(layer.gates)
                terms = (bias.chunk(count)[place] for bias in (layer.bias_ih, layer.bias_hh))
                found.append(GateBias(tuple(terms)))
        return found

    def activations(self, x: Tensor, state: State) -> dict[str, Tensor]:
        """Return what the units do on N days, from x (N, F) and the states before them (N, ...).

        "tanh" and "relu" are pre-activations (N, ...), which that nonlinearity is applied to. Any
        other name is a gate: how far it is open, from 0 to 1.
        """
        return {}


def predict_answers(model: SequenceModel, batch: Batch) -> Tensor:
    """Return the predictions (N, K) for the N answers that a batch asks for, in their order."""
    if not batch.asks_every_day:
        return model(batch.x, batch.lengths)
    return model.every_day(without_padding(batch.x, batch.lengths))[batch.asked]


def traded(lengths: Tensor, days: int) -> Tensor:
    """Mark the days that each company, of age lengths (B,), has traded: (B, T) bool."""
    return torch.arange(days, device=lengths.device) < lengths[:, None]


def without_padding(x: Tensor, lengths: Tensor) -> Tensor:
    """Return x (B, T, F) with zeros behind each company's last day, whatever stood there."""
    return x.where(traded(lengths, x.shape[1])[..., None], 0)


def unroll(model: RecurrentModel, x: Tensor) -> State:
    """Step `model.cell` over x (B, T, F), one day at a time; return the states (T, B, ...)."""
    state, states = model.initial_state(len(x)), []
    for x_t in x.unbind(1):
        state = model.cell(x_t, state)
        states.append(state)
    return {name: torch.stack([state[name] for state in states]) for name in state}


def at_last_day(days: Tensor, lengths: Tensor) -> Tensor:
    """Select each company's own last day from time-major values (T, B, ...): (B, ...)."""
    return days[lengths - 1, torch.arange(days.shape[1], device=days.device)]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set a model to evaluation mode, without dropout; afterwards each module is as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
