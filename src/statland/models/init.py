"""Initialisations of a recurrent model. Each changes the weights that PyTorch's own has drawn.

One that does not suit the model is refused: setting a forget gate that is not there, say.
"""

import torch
from torch import Tensor, nn

from statland.models.base import RecurrentModel
from statland.settings import SettingError, number, whole


def default(model: RecurrentModel) -> None:
    """PyTorch's own: every weight and bias uniform within 1/sqrt(H) of 0."""


@torch.no_grad()
def orthogonal(model: RecurrentModel, gain: float) -> None:
    """Each recurrent matrix (each gate's, in an LSTM) becomes gain times a random orthogonal one.

    A. Saxe, J. McClelland and S. Ganguli, "Exact solutions to the nonlinear dynamics of learning
    in deep linear neural networks", ICLR 2014.
    """
    number("model.init.gain", gain, most=1e30, above=0)
    for index in range(model.num_layers):
        for block in model.layer(index).weight_hh.split(model.hidden_size):
            nn.init.orthogonal_(block, gain)


@torch.no_grad()
def identity(model: RecurrentModel) -> None:
    """The IRNN: recurrent weights the identity, recurrent biases 0. For networks without gates.

    Q. Le, N. Jaitly and G. Hinton, "A simple way to initialize recurrent networks of rectified
    linear units", arXiv:1504.00941 (2015).
    """
    _refuse_gates(model, "identity")
    for index in range(model.num_layers):
        w = model.layer(index)
        nn.init.eye_(w.weight_hh)
        w.bias_ih.zero_()
        w.bias_hh.zero_()


@torch.no_grad()
def forget_bias(model: RecurrentModel, value: float) -> None:
    """The forget gate's bias becomes `value`: 1 keeps about 0.73 of the cell state each day.

    F. Gers, J. Schmidhuber and F. Cummins, "Learning to forget", Neural Computation 12 (2000);
    R. Jozefowicz, W. Zaremba and I. Sutskever, ICML 2015.
    """
    number("model.init.value", value, -1e30, 1e30)
    for index in range(model.num_layers):
        _set_gate_bias(model, index, "forget", torch.full((model.hidden_size,), float(value)))


@torch.no_grad()
def chrono(model: RecurrentModel, max_span: int) -> None:
    """Forget biases log u with u uniform from 1 to max_span - 1 days; input biases their negative.

    A unit with forget bias log u keeps its memory for about u days.
    C. Tallec and Y. Ollivier, "Can recurrent neural networks warp time?", ICLR 2018.
    """
    whole("model.init.max_span", max_span, 2, 10**9)
    for index in range(model.num_layers):
        days = torch.empty(model.hidden_size).uniform_(1, max(1, max_span - 1))
        _set_gate_bias(model, index, "forget", days.log())
        _set_gate_bias(model, index, "input", -days.log())


@torch.no_grad()
def constant(
    model: RecurrentModel,
    input_weight: float,
    recurrent_weight: float,
    output_weight: float,
    bias: float,
) -> None:
    """Every weight of a kind gets one value. For networks without gates.

    1.8, -0.5, 1.1 and 0 with one ReLU unit is the network that StatQuest sets by hand
    ("Recurrent Neural Networks, clearly explained").
    """
    _refuse_gates(model, "constant")
    weights = {
        "input_weight": input_weight,
        "recurrent_weight": recurrent_weight,
        "output_weight": output_weight,
        "bias": bias,
    }
    for key, value in weights.items():
        number(f"model.init.{key}", value, -1e30, 1e30)
    for index in range(model.num_layers):
        w = model.layer(index)
        w.weight_ih.fill_(input_weight)
        w.weight_hh.fill_(recurrent_weight)
        w.bias_ih.fill_(bias)
        w.bias_hh.zero_()  # the two are only ever added
    model.output.weight.fill_(output_weight)
    model.output.bias.fill_(bias)


def _refuse_gates(model: RecurrentModel, name: str) -> None:
    if model.gates:
        raise SettingError(
            f"model/init={name} sets a network without gates, and model {type(model).__name__} "
            f"has gates; allowed: default, orthogonal, forget_bias, chrono"
        )


def _set_gate_bias(model: RecurrentModel, index: int, gate: str, value: Tensor) -> None:
    """Make bias_ih + bias_hh of one gate `value`: all in bias_ih, as only the sum acts."""
    if gate not in model.gates:
        raise SettingError(
            f"this model/init sets the bias of a {gate} gate, and model {type(model).__name__} "
            f"has none; allowed: default, orthogonal, identity, constant"
        )
    w = model.layer(index)
    place = model.gates.index(gate)
    w.bias_ih.split(model.hidden_size)[place].copy_(value)
    w.bias_hh.split(model.hidden_size)[place].zero_()
