"""The minimal GRU against its equations and closed forms, in float64."""

import math

import pytest
import torch
from torch import Tensor

from statland.gradients import gradient_flow
from statland.gradients.spectrum import lyapunov_spectrum
from statland.models.activation import sigmoid
from statland.models.init import default
from statland.models.mingru import Gated, MinGRU


def blind(bias: Tensor) -> MinGRU:
    """V = 0: the gate z stands at sigmoid(bias), whatever the day brings."""
    model = MinGRU(1, 1, len(bias), 1, default).double()
    with torch.no_grad():
        model.gates[0].weight.zero_()
        model.gates[0].bias.copy_(bias)
    return model


def test_one_unit_by_hand() -> None:
    """Two days of h = (1 - z) h + z (W x + c) with z = 1/2 and then 3/4."""
    model = MinGRU(1, 1, 1, 1, default).double()
    values = {"gates.0": (math.log(3), 0), "values.0": (2, -1), "output": (10, 0.5)}
    with torch.no_grad():
        for name, (weight, bias) in values.items():
            model.get_submodule(name).weight.fill_(weight)
            model.get_submodule(name).bias.fill_(bias)
    x = torch.tensor([[0.0, 1.0]]).double().unsqueeze(-1)
    for days, h in ((1, -0.5), (2, 0.25 * -0.5 + 0.75 * 1)):
        found = model(x, torch.tensor([days])).item()
        assert found == pytest.approx(10 * h + 0.5, rel=1e-14)


@pytest.mark.parametrize("bias", [0.0, -4.5, 50.0])
def test_the_flow_falls_by_the_forget_gate(bias: float) -> None:
    """By log10(1 - z) a day, also where z rounds to 1."""
    log10 = gradient_flow(blind(torch.full((5,), bias)), torch.randn(3, 100, 1)).log10["state"]
    daily = -math.log1p(math.exp(bias)) / math.log(10)
    assert log10.diff(dim=1).sub(daily).abs().max() < 1e-10


def test_the_lyapunov_exponent_is_the_mean_of_the_log_of_the_forget_gate() -> None:
    x, one = torch.randn(2, 500, 2).double(), MinGRU(2, 1, 1, 1, default).double()
    with torch.no_grad():
        expected = (1 - one.gates[0](x).sigmoid()).log().mean()
    torch.testing.assert_close(lyapunov_spectrum(one, x)[0], expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("most", [1.0, 1.5, 2.0])
def test_slopes_of_saturated_gates_are_small_and_not_0(most: float) -> None:
    """By autograd of sigmoids whose slopes do not cancel; torch.sigmoid's is 0 from 38 on."""
    a = torch.tensor([-300.0, -40, -1, 0, 2, 40, 300]).double().requires_grad_()
    n, k, w = (torch.randn(7).double().requires_grad_() for _ in range(3))
    ours = Gated.apply(a, n, most)
    theirs = sigmoid(-a) - (most - 1) * sigmoid(a), most * sigmoid(a) * n
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-14, atol=0)
    found = torch.autograd.grad(ours, (a, n), (k, w))
    expected = torch.autograd.grad(theirs, (a, n), (k, w))
    for one, other in zip(found, expected, strict=True):
        assert (one != 0).all()
        torch.testing.assert_close(one, other, rtol=1e-10, atol=0)


def test_a_gate_of_2_counts_modulo_2() -> None:
    """A unit set by hand: a high turns h to 1 - h, a low keeps it; so h is the parity."""
    model = MinGRU(1, 1, 1, 1, default, gate_max=2).double()
    values = {"gates.0": (200, -100), "values.0": (0, 0.5), "output": (1, 0)}
    with torch.no_grad():
        for name, (weight, bias) in values.items():
            model.get_submodule(name).weight.fill_(weight)
            model.get_submodule(name).bias.fill_(bias)
    highs = (torch.rand(64, 300, 1) < 0.5).double()
    found, steps = model.every_day(highs), model.initial_state(64)
    torch.testing.assert_close(found, highs.cumsum(1) % 2, rtol=0, atol=1e-12)
    for day in range(5):
        steps = model.cell(highs[:, day], steps)
        torch.testing.assert_close(model.readout(steps), found[:, day], rtol=0, atol=1e-12)
    assert gradient_flow(model, highs).log10["state"].abs().max() < 1e-12  # |1 - z| is 1
