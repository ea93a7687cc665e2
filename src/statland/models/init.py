"""Initialisations of a recurrent model. Each changes the weights that the constructor has drawn.

Each names what it needs of a model, and refuses a model without it.
"""

from typing import Annotated

import torch
from torch import nn

from statland.models.base import Layer, RecurrentModel
from statland.settings import Range, SettingError

Value = Annotated[float, Range(-1e30, 1e30)]

OWN, PLAIN = "a recurrent matrix of its own", "a recurrent matrix without gates"
FORGET = "a forget gate with a bias"


def suiting(model: RecurrentModel) -> list[str]:
    """Return the names of the initialisations that suit a model."""
    names = ["chrono", "forget_bias"] if model.gate_biases("forget") else []
    names += ["constant", "identity"] if plain_layers(model) else []
    names += ["orthogonal"] if model.layers() else []
    return ["default", *sorted(names)]


def require(name: str, model: RecurrentModel, what: str) -> None:
    """Raise SettingError, which names those that suit, where an initialisation does not."""
    if name not in suiting(model):
        raise SettingError(
            f"model/init={name} needs {what}, which model {type(model).__name__} does not have; "
            f"allowed: {', '.join(suiting(model))}"
        )


def plain_layers(model: RecurrentModel) -> list[Layer]:
    """Return the layers that have no gates."""
    return [layer for layer in model.layers() if not layer.gates]


def default(model: RecurrentModel) -> None:
    """Keep the model's own; in nn.RNN's form all weights are uniform within 1/sqrt(H) of 0."""


@torch.no_grad()
def orthogonal(model: RecurrentModel, gain: Annotated[float, Range(above=0, most=1e30)]) -> None:
    """Make each recurrent matrix (with gates, each gate's) gain times a random orthogonal matrix.

    A. Saxe, J. McClelland and S. Ganguli, "Exact solutions to the nonlinear dynamics of learning
    in deep linear neural networks", ICLR 2014.
    """
    require("orthogonal", model, OWN)
    for layer in model.layers():
        for block in layer.weight_hh.chunk(max(1, len(layer.gates))):
            nn.init.orthogonal_(block, gain)


@torch.no_grad()
def identity(model: RecurrentModel) -> None:
    """Make each recurrent matrix the identity and its bias 0: the IRNN.

    Q. Le, N. Jaitly and G. Hinton, "A simple way to initialize recurrent networks of rectified
    linear units", arXiv:1504.00941 (2015).
    """
    require("identity", model, PLAIN)
    for layer in plain_layers(model):
        nn.init.eye_(layer.weight_hh)
        layer.bias_ih.zero_()
        layer.bias_hh.zero_()


@torch.no_grad()
def forget_bias(model: RecurrentModel, value: Value) -> None:
    """Set the forget gate's bias to `value`: 1 keeps about 0.73 of the memory each day.

    F. Gers, J. Schmidhuber and F. Cummins, "Learning to forget", Neural Computation 12 (2000);
    R. Jozefowicz, W. Zaremba and I. Sutskever, ICML 2015.
    """
    require("forget_bias", model, FORGET)
    for bias in model.gate_biases("forget"):
        bias.set(torch.full_like(bias.terms[0], value))


@torch.no_grad()
def chrono(model: RecurrentModel, max_span: Annotated[int, Range(2, 10**9)]) -> None:
    """Set forget biases to log u and input biases to -log u, u uniform from 1 to max_span - 1 days.

    A unit with forget bias log u keeps its memory for about u days.
    C. Tallec and Y. Ollivier, "Can recurrent neural networks warp time?", ICLR 2018.
    """
    require("chrono", model, FORGET)
    forget, write = model.gate_biases("forget"), model.gate_biases("input")
    for index, bias in enumerate(forget):
        days = torch.empty_like(bias.terms[0]).uniform_(1, max(1, max_span - 1))
        bias.set(days.log())
        if write:
            write[index].set(-days.log())


@torch.no_grad()
def constant(
    model: RecurrentModel,
    input_weight: Value,
    recurrent_weight: Value,
    output_weight: Value,
    bias: Value,
) -> None:
    """Give every weight of a kind one value.

    1.8, -0.5, 1.1 and 0 with one ReLU unit is the network that StatQuest sets by hand
    ("Recurrent Neural Networks, clearly explained").
    """
    require("constant", model, PLAIN)
    for layer in plain_layers(model):
        layer.weight_ih.fill_(input_weight)
        layer.weight_hh.fill_(recurrent_weight)
        layer.bias_ih.fill_(bias)
        layer.bias_hh.zero_()  # only the sum of the two acts
    model.get_parameter("output.weight").fill_(output_weight)
    model.get_parameter("output.bias").fill_(bias)
