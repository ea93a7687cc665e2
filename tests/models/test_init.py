"""What each initialisation promises of the weights."""

import math

import pytest
import torch
from conftest import INITS, MODELS, built, composed, refusal
from torch.testing import assert_close

from statland.models.init import suiting

DEFAULT = {"_target_": "statland.models.init.default"}


# The models whose yaml leaves the initialisation open.
OPEN = [name for name in MODELS if composed(f"model={name}")["model"].get("init") == DEFAULT]


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("model", OPEN)
def test_an_init_suits_a_model_or_is_refused_with_those_that_do(init: str, model: str) -> None:
    """What one init says is allowed, the others accept: every model against every init."""
    plain = built(f"model={model}").model
    overrides = (f"model={model}", f"model/init={init}")
    if init in suiting(plain):
        built(*overrides)
    else:
        said, allowed = refusal(*overrides), ", ".join(suiting(plain))
        assert said.startswith(f"model/init={init} needs a ")
        assert said.endswith(f"which model {type(plain).__name__} does not have; "
                             f"allowed: {allowed}")  # fmt: skip


def test_what_suits_a_network_with_and_without_gates() -> None:
    assert suiting(built("model=rnn_cell").model) == [
        "default",
        "constant",
        "identity",
        "orthogonal",
    ]
    assert suiting(built("model=lstm").model) == ["default", "chrono", "forget_bias", "orthogonal"]


@pytest.mark.parametrize("model", ["rnn_cell", "lstm"])
def test_orthogonal(model: str) -> None:
    _, net, _ = built(f"model={model}", "model/init=orthogonal", "model.init.gain=1.5")
    for block in net.layer(0).weight_hh.split(net.hidden_size):
        assert_close(block @ block.T, 1.5**2 * torch.eye(net.hidden_size), atol=1e-5, rtol=0)


def test_irnn() -> None:
    _, net, _ = built("model=irnn", "model.num_layers=2")
    for index in range(2):
        w = net.layer(index)
        assert torch.equal(w.weight_hh, torch.eye(32))
        assert not w.bias_ih.any()
        assert not w.bias_hh.any()
    assert net.nonlinearity == "relu"


def gate_bias(net: torch.nn.Module, gate: str) -> torch.Tensor:
    w = net.layer(0)
    bias = w.bias_ih + w.bias_hh
    return bias.split(net.hidden_size)[net.gates.index(gate)]


def test_forget_bias_and_the_order_of_gates() -> None:
    """With no input and all other weights 0, c_t = sigmoid(bias) c_{t-1}: read off nn.LSTM."""
    _, net, _ = built("model=lstm_forget1", "model.init.value=2")
    assert_close(gate_bias(net, "forget"), torch.full((32,), 2.0))
    with torch.no_grad():
        for name, parameter in net.recurrence.named_parameters():
            if "weight" in name:
                parameter.zero_()
        kept = net.layer(0).bias_ih
        others = torch.ones(128, dtype=torch.bool)
        others[32:64] = False
        kept[others] = 0
        net.layer(0).bias_hh.zero_()
    before = torch.ones(1, 1, 32)
    _, (_, after) = net.recurrence(torch.zeros(1, 1, 1), (torch.zeros(1, 1, 32), before))
    assert_close(after, torch.full_like(after, 1 / (1 + math.exp(-2))))


def test_chrono() -> None:
    _, net, _ = built("model=lstm_chrono", "data.max_days=200", "model.hidden_size=512")
    days = gate_bias(net, "forget").exp()
    assert days.min() >= 1
    assert days.max() <= 199
    assert abs(days.mean() - 100) < 10  # uniform from 1 to 199: the mean of 512 is within 4 sigma
    assert_close(gate_bias(net, "input"), -gate_bias(net, "forget"))


def test_the_hand_set_network_obeys_the_four_rules() -> None:
    """StatQuest's arithmetic: 0, 0.99, 0, 0.99."""
    for model in ("rnn_cell", "rnn"):
        one_unit = ("model.hidden_size=1", "model.nonlinearity=relu", "model/init=constant")
        _, net, _ = built(f"model={model}", *one_unit)
        x = torch.tensor([[0, 0], [0, 0.5], [1, 0.5], [1, 1]]).unsqueeze(-1)
        prediction = net(x, torch.full((4,), 2)).squeeze(1)
        assert_close(prediction, torch.tensor([0, 0.99, 0, 0.99]), atol=1e-6, rtol=0)
