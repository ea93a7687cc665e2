"""Initialisations of a recurrent model. Each changes the weights that PyTorch's own has drawn.

What an initialisation needs of a model, it says by `@needs`; a model without it is refused.
"""

import inspect
import sys
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, NamedTuple, ParamSpec

import torch
from torch import nn

from statland.models.base import Layer, RecurrentModel
from statland.settings import SettingError, integer, number

P = ParamSpec("P")
Initialisation = Callable[Concatenate[RecurrentModel, P], None]


class Need(NamedTuple):
    """What an initialisation needs of a model."""

    name: str
    is_met: Callable[[RecurrentModel], bool]


def _plain_layers(model: RecurrentModel) -> list[Layer]:
    return [layer for layer in model.layers() if not layer.gates]


WEIGHTS = Need("a recurrent matrix of its own", lambda model: bool(model.layers()))
PLAIN = Need("a recurrent matrix without gates", lambda model: bool(_plain_layers(model)))
SCALARS = Need(
    "a recurrent matrix without gates below a linear output",
    lambda model: PLAIN.is_met(model) and isinstance(getattr(model, "output", None), nn.Linear),
)
FORGET = Need("a forget gate with a bias", lambda model: bool(model.gate_biases("forget")))


def needs(need: Need) -> Callable[[Initialisation[P]], Initialisation[P]]:
    """Refuse, with a SettingError that names those that suit, a model that lacks `need`."""

    def guard(initialise: Initialisation[P]) -> Initialisation[P]:
        @wraps(initialise)
        def checked(model: RecurrentModel, /, *args: P.args, **settings: P.kwargs) -> None:
            if not need.is_met(model):
                raise SettingError(
                    f"model/init={initialise.__name__} needs {need.name}, which model "
                    f"{type(model).__name__} does not have; allowed: {', '.join(suiting(model))}"
                )
            with torch.no_grad():
                initialise(model, *args, **settings)

        checked.need = need  # type: ignore[attr-defined]  # how `suiting` finds it
        return checked

    return guard


def suiting(model: RecurrentModel) -> list[str]:
    """The names of the initialisations in this file that suit a model."""
    functions = inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    found = [name for name, f in functions if hasattr(f, "need") and f.need.is_met(model)]
    return ["default", *found]


def default(model: RecurrentModel) -> None:
    """The model's own; for nn.RNN's form every weight and bias uniform within 1/sqrt(H) of 0."""


@needs(WEIGHTS)
def orthogonal(model: RecurrentModel, gain: float) -> None:
    """Each recurrent matrix (each gate's, where there are gates) is gain times an orthogonal one.

    A. Saxe, J. McClelland and S. Ganguli, "Exact solutions to the nonlinear dynamics of learning
    in deep linear neural networks", ICLR 2014.
    """
    number("model.init.gain", gain, most=1e30, above=0)
    for layer in model.layers():
        for block in layer.weight_hh.chunk(max(1, len(layer.gates))):
            nn.init.orthogonal_(block, gain)


@needs(PLAIN)
def identity(model: RecurrentModel) -> None:
    """The IRNN: recurrent weights the identity, biases 0.

    Q. Le, N. Jaitly and G. Hinton, "A simple way to initialize recurrent networks of rectified
    linear units", arXiv:1504.00941 (2015).
    """
    for layer in _plain_layers(model):
        nn.init.eye_(layer.weight_hh)
        layer.bias_ih.zero_()
        layer.bias_hh.zero_()


@needs(FORGET)
def forget_bias(model: RecurrentModel, value: float) -> None:
    """The forget gate's bias becomes `value`: 1 keeps about 0.73 of the memory each day.

    F. Gers, J. Schmidhuber and F. Cummins, "Learning to forget", Neural Computation 12 (2000);
    R. Jozefowicz, W. Zaremba and I. Sutskever, ICML 2015.
    """
    number("model.init.value", value, -1e30, 1e30)
    for bias in model.gate_biases("forget"):
        bias.set(torch.full_like(bias.terms[0], value))


@needs(FORGET)
def chrono(model: RecurrentModel, max_span: int) -> None:
    """Forget biases log u with u uniform from 1 to max_span - 1 days; input biases their negative.

    A unit with forget bias log u keeps its memory for about u days.
    C. Tallec and Y. Ollivier, "Can recurrent neural networks warp time?", ICLR 2018.
    """
    integer("model.init.max_span", max_span, 2, 10**9)
    forget, write = model.gate_biases("forget"), model.gate_biases("input")
    for index, bias in enumerate(forget):
        days = torch.empty_like(bias.terms[0]).uniform_(1, max(1, max_span - 1))
        bias.set(days.log())
        if write:
            write[index].set(-days.log())


@needs(SCALARS)
def constant(
    model: RecurrentModel,
    input_weight: float,
    recurrent_weight: float,
    output_weight: float,
    bias: float,
) -> None:
    """Every weight of a kind gets one value.

    1.8, -0.5, 1.1 and 0 with one ReLU unit is the network that StatQuest sets by hand
    ("Recurrent Neural Networks, clearly explained").
    """
    weights = {
        "input_weight": input_weight,
        "recurrent_weight": recurrent_weight,
        "output_weight": output_weight,
        "bias": bias,
    }
    for key, value in weights.items():
        number(f"model.init.{key}", value, -1e30, 1e30)
    for layer in _plain_layers(model):
        layer.weight_ih.fill_(input_weight)
        layer.weight_hh.fill_(recurrent_weight)
        layer.bias_ih.fill_(bias)
        layer.bias_hh.zero_()  # the two are only ever added
    output = model.output
    assert isinstance(output, nn.Linear)  # SCALARS says so
    output.weight.fill_(output_weight)
    output.bias.fill_(bias)
