"""What each initialisation promises of the weights."""

import math

import pytest
import torch
from conftest import FAMILIES, INITS, built, composed, refusal
from torch.testing import assert_close

from statland.models import init as initialisations
from statland.models.base import GateBias
from statland.models.init import suiting
from statland.settings import SettingError, check_arguments

DEFAULT = {"_target_": "statland.models.init.default"}


# The models whose yaml leaves the initialisation open.
OPEN = [name for name in FAMILIES if composed(f"model={name}")["model"].get("init") == DEFAULT]


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


@pytest.mark.parametrize("init", INITS)
def test_settings_out_of_bounds_are_refused(init: str) -> None:
    values = composed(f"model/init={init}")["model"]["init"]
    function = getattr(initialisations, values.pop("_target_").rpartition(".")[2])
    for key in values:
        for wrong in (-math.inf, 1e31, "many", None):
            with pytest.raises(SettingError, match=f"model.init.{key} is .*; allowed: a .* number"):
                check_arguments("model.init", function, {**values, key: wrong}, {"model"})


@pytest.mark.parametrize("model", ["rnn_cell", "lstm", "gru"])
def test_orthogonal(model: str) -> None:
    _, net, _ = built(f"model={model}", "model/init=orthogonal", "model.init.gain=1.5")
    matrices = net.recurrent_matrices()
    names = [f"weight_hh_l0_{gate}" for gate in net.gates] or ["weight_hh_l0"]
    assert list(matrices) == names
    for block in matrices.values():
        assert_close(block @ block.T, 1.5**2 * torch.eye(32), atol=1e-5, rtol=0)


def test_irnn() -> None:
    _, net, _ = built("model=irnn", "model.num_layers=2")
    for index in range(2):
        w = net.layer(index)
        assert torch.equal(w.weight_hh, torch.eye(32))
        assert not w.bias_ih.any()
        assert not w.bias_hh.any()
    assert net.recurrence.nonlinearity == "relu"


def test_forget_bias_and_the_order_of_gates() -> None:
    """With no input and all other weights 0, c_t = sigmoid(bias) c_{t-1}: read off nn.LSTM."""
    _, net, _ = built("model=lstm_forget1", "model.init.value=2")
    assert_close(value_of(net.gate_biases("forget")[0]), torch.full((32,), 2.0))
    forget = torch.arange(128).div(32, rounding_mode="floor") == 1
    with torch.no_grad():
        for name, parameter in net.recurrence.named_parameters():
            parameter[~forget if "bias" in name else slice(None)] = 0
    before = torch.ones(1, 1, 32)
    _, (_, after) = net.recurrence(torch.zeros(1, 1, 1), (torch.zeros(1, 1, 32), before))
    assert_close(after, torch.full_like(after, 1 / (1 + math.exp(-2))))


@pytest.mark.parametrize("model", ["lstm", "gru", "mingru"])
def test_chrono(model: str) -> None:
    """Forget gates keep u days, u uniform from 1 to 199; input gates their reverse; no more."""
    overrides = ("data.max_days=200", "model.hidden_size=512", "model.num_layers=2")
    plain, net = (built(f"model={name}", *overrides)[1] for name in (model, f"{model}_chrono"))
    forget, write = net.gate_biases("forget"), net.gate_biases("input")
    assert len(forget) == 2
    assert len(write) == (2 if model == "lstm" else 0)
    for index, bias in enumerate(forget):
        days = value_of(bias).exp()
        assert 1 <= days.min() < 20
        assert 180 < days.max() <= 199 * (1 + 1e-5)
        assert abs(days.mean() - 100) < 10  # within 4 sigma
        with torch.no_grad():
            plain.gate_biases("forget")[index].set(value_of(bias))
            if write:
                assert_close(value_of(write[index]), -value_of(bias))
                plain.gate_biases("input")[index].set(value_of(write[index]))
    for one, other in zip(plain.parameters(), net.parameters(), strict=True):
        assert torch.equal(one, other)


def value_of(bias: GateBias) -> torch.Tensor:
    return bias.sign * sum(bias.terms)


def test_the_hand_set_network_obeys_the_four_rules() -> None:
    """StatQuest's arithmetic: 0, 0.99, 0, 0.99."""
    for model in ("rnn_cell", "rnn"):
        one_unit = ("model.hidden_size=1", "model.nonlinearity=relu", "model/init=constant")
        _, net, _ = built(f"model={model}", *one_unit)
        x = torch.tensor([[0, 0], [0, 0.5], [1, 0.5], [1, 1]]).unsqueeze(-1)
        prediction = net(x, torch.full((4,), 2)).squeeze(1)
        assert_close(prediction, torch.tensor([0, 0.99, 0, 0.99]), atol=1e-6, rtol=0)
