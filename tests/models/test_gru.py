"""The GRU against torch.nn.GRU and closed forms, in float64."""

import math

import pytest
import torch
from conftest import built, refusal
from torch import Tensor, nn

from statland.gradients import gradient_flow
from statland.gradients.activity import activity
from statland.gradients.spectrum import lyapunov_spectrum
from statland.models.base import unroll
from statland.models.gru import GRU
from statland.models.init import default, suiting
from statland.settings import SettingError

LENGTHS = torch.tensor([30, 4, 1, 17])


def squared(y: Tensor):
    return lambda prediction: (prediction - y).square().mean(1)


def still(forget: Tensor) -> GRU:
    """All weights 0, no new value: h_t = sigmoid(forget) h_{t-1}; the reset gate at sigmoid(1)."""
    model = GRU(1, 1, len(forget), 1, default).double()
    with torch.no_grad():
        for parameter in model.recurrence.parameters():
            parameter.zero_()
        reset, kept, _ = model.layer(0).bias_ih.chunk(3)
        reset.fill_(1)
        kept.copy_(forget)
    return model


@pytest.mark.parametrize("layers", [1, 3])
def test_equals_the_bare_nn_gru_s_measurement(layers: int) -> None:
    """Same weights, same head: the prediction, and dl/ds and dl/dx at every lag."""
    model = GRU(2, 3, 5, layers, default).double()
    bare = nn.GRU(2, 5, layers, batch_first=True).double()
    bare.load_state_dict(model.recurrence.state_dict())
    x, y = torch.randn(4, 30, 2).double(), torch.randn(4, 3).double()
    ends = torch.arange(4), LENGTHS - 1
    torch.testing.assert_close(
        model(x, LENGTHS), model.output(bare(x)[0][ends]), rtol=1e-10, atol=1e-12
    )
    ours = gradient_flow(model, x, LENGTHS, squared(y))
    theirs = gradient_flow(bare, x, LENGTHS, lambda h: squared(y)(model.output(h)))
    for name in ("state", "x"):
        a, b = (10 ** (f.log10[name] + f.log10_error[:, None]) for f in (ours, theirs))
        torch.testing.assert_close(a, b, rtol=1e-10, atol=0, equal_nan=True)


def test_forget_is_the_gate_that_multiplies_what_is_remembered() -> None:
    """Read off nn.GRU itself: with no new value, h_t = sigmoid(forget bias) h_{t-1}."""
    forget = torch.tensor([2.0, -1.0, 0.0]).double()
    model = still(torch.zeros(3))
    with torch.no_grad():
        model.gate_biases("forget")[0].set(forget)
    _, after = model.recurrence(torch.zeros(1, 1, 1).double(), torch.ones(1, 1, 3).double())
    torch.testing.assert_close(after[0, 0], forget.sigmoid(), rtol=1e-14, atol=0)
    assert model.gate_biases("input") == []


def test_the_flow_falls_by_the_forget_gate() -> None:
    """sigmoid(forget bias) a day, unit by unit; so the Lyapunov exponents are its logarithms."""
    forget = torch.tensor([3.0, 0.0, -2.0]).double()
    for place in range(3):
        model = still(forget)
        with torch.no_grad():
            model.output.weight.copy_(torch.eye(3)[place : place + 1])
        log10 = gradient_flow(model, torch.rand(2, 40, 1)).log10["state"]
        expected = forget[place].sigmoid().log10() * torch.arange(40).double()
        torch.testing.assert_close(log10, expected.expand(2, -1), rtol=1e-10, atol=1e-10)
    found = lyapunov_spectrum(still(forget), torch.rand(2, 300, 1))
    # The random start is a transient, of a day or two in 300.
    torch.testing.assert_close(found, forget.sigmoid().log(), rtol=0, atol=0.02)


def test_its_gates_are_logged() -> None:
    model = still(torch.full((4,), 2.0))
    x = torch.rand(3, 6, 1).double()
    states = unroll(model, x).detach()
    found = activity(model, x, torch.tensor([6, 2, 3]), states)
    for gate, bias in (("reset", 1), ("forget", 2)):
        for kind in ("mean", "p90"):
            open_at = 1 / (1 + math.exp(-bias))
            assert found[f"units/gate_{gate}_{kind}"] == pytest.approx(open_at, rel=1e-6)
    assert found["units/tanh_slope"] == 1
    assert set(found) == {
        *(f"units/gate_{gate}_{kind}" for gate in ("reset", "forget") for kind in ("mean", "p90")),
        *("units/tanh_saturated", "units/tanh_slope"),
    }


@pytest.mark.parametrize("layers", [1, 2])
def test_activations_are_those_of_nn_gru(layers: int) -> None:
    """h_t - n = z (h_{t-1} - n): what the model says of z and n gives the state of nn.GRU."""
    model = GRU(1, 1, 4, layers, default).double()
    x = torch.randn(3, 9, 1).double()
    with torch.no_grad():
        states = torch.cat([torch.zeros(1, 3, 4 * layers), unroll(model, x)])
        found = model.activations(x[:, -1], states[-2])
        top = model.recurrence(x.transpose(0, 1))[0][-1]
    n = found["tanh"].tanh()
    expected = n + found["forget"] * (states[-2] - n)
    torch.testing.assert_close(expected[:, -4:], top, rtol=1e-12, atol=1e-12)


def test_chrono_sets_the_forget_gate_alone() -> None:
    overrides = ("data.max_days=200", "model.hidden_size=512", "model.num_layers=2")
    plain, net = (built(f"model={name}", *overrides)[1] for name in ("gru", "gru_chrono"))
    assert suiting(plain) == ["default", "chrono", "forget_bias", "orthogonal"]
    for index in range(2):
        days = sum(net.gate_biases("forget")[index].terms).exp()
        assert 1 <= days.min() < 20
        assert 180 < days.max() <= 199 * (1 + 1e-5)
        assert abs(days.mean() - 100) < 10  # uniform from 1 to 199: within 4 sigma
        for before, after in zip(plain.layer(index)[:4], net.layer(index)[:4], strict=True):
            for row in (0, 2):
                assert torch.equal(before.chunk(3)[row], after.chunk(3)[row])


def test_orthogonal_gates() -> None:
    _, net, _ = built("model=gru", "model/init=orthogonal", "model.init.gain=1.5")
    assert list(net.recurrent_matrices()) == [
        f"weight_hh_l0_{gate}" for gate in ("reset", "forget", "new")
    ]
    for block in net.recurrent_matrices().values():
        torch.testing.assert_close(block @ block.T, 1.5**2 * torch.eye(32), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.hidden_size=0", "model.hidden_size is 0; allowed: a whole number from 1"),
        ("model.hidden_size=2.5", "model.hidden_size is 2.5; allowed: a whole number"),
        ("model.hidden_size=true", "model.hidden_size is True; allowed: a whole number"),
        ("model.hidden_size=99999999", "model.hidden_size is 99999999; allowed"),
        ("model.num_layers=0", "model.num_layers is 0; allowed: a whole number from 1"),
        ("model.num_layers=two", "model.num_layers is 'two'; allowed: a whole number"),
        ("model.num_layers=null", "model.num_layers is None; allowed: a whole number"),
        ("model/init=identity", "model/init=identity needs a recurrent matrix without gates"),
        ("model/init=constant", "which model GRU does not have; allowed: default, chrono"),
    ],
)
def test_what_is_refused(override: str, message: str) -> None:
    assert message in refusal("model=gru", override)


def test_more_weights_than_memory_are_refused() -> None:
    with pytest.raises(SettingError, match="recurrent weights; allowed: at most"):
        built("model=gru", "model.hidden_size=16384", "model.num_layers=999")
