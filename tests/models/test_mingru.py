"""The minimal GRU against its equations and closed forms, in float64."""

import math

import pytest
import torch
from conftest import built
from torch import Tensor

from statland.gradients import decay_per_day, gradient_flow, profile, reach_days
from statland.gradients.activity import activity
from statland.gradients.backward import unroll_batch
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


def test_half_open_gates_halve_the_flow() -> None:
    """V = 0 and b = 0: log10(1/2) decades a day at the state, at every lag, and reach 6."""
    flow = gradient_flow(blind(torch.zeros(5)), torch.randn(3, 300, 1)).log10
    found = flow["state"].diff(dim=1)
    assert (found + math.log10(2)).abs().max() < 1e-10
    median = profile(flow["state"]).median
    assert decay_per_day(median) == pytest.approx(-0.30103, abs=1e-6)
    assert reach_days(median) == (6, True)


def test_lyapunov_exponents_are_the_means_of_the_log_of_the_forget_gate() -> None:
    model = MinGRU(2, 1, 4, 1, default).double()
    with torch.no_grad():
        model.gates[0].bias.copy_(torch.tensor([-4.0, -2.0, 0.0, 2.0]))
    x = torch.randn(2, 500, 2).double()
    with torch.no_grad():
        expected = (1 - model.gates[0](x).sigmoid()).log().mean((0, 1))
    found = lyapunov_spectrum(model, x)
    # The random start is a transient, of a day or two in 500.
    torch.testing.assert_close(found, expected.sort(descending=True).values, rtol=0, atol=0.01)
    assert found.sum().item() == pytest.approx(expected.sum().item(), rel=1e-10)
    one = MinGRU(2, 1, 1, 1, default).double()
    with torch.no_grad():
        expected = (1 - one.gates[0](x).sigmoid()).log().mean()
    torch.testing.assert_close(lyapunov_spectrum(one, x)[0], expected, rtol=1e-10, atol=0)


def test_lyapunov_exponents_of_layers_sum_to_the_log_determinant() -> None:
    """What a layer does to the next one stands below the diagonal, and does not count."""
    model = MinGRU(1, 1, 3, 3, default).double()
    x = torch.randn(2, 40, 1).double()
    with torch.no_grad():
        states = unroll_batch(model, x.transpose(0, 1), torch.full((2,), 40)).states["h"]
        rows = x.transpose(0, 1).flatten(0, 1), {"h": states[:-1].flatten(0, 1)}
        kept = model.activations(*rows)["forget"]
    expected = kept.log().mean(0).sum().item()
    assert lyapunov_spectrum(model, x).sum().item() == pytest.approx(expected, rel=1e-10)


def test_the_gate_is_logged_as_what_is_kept() -> None:
    model = blind(torch.full((3,), -2.0))
    x = torch.randn(4, 7, 1).double()
    states = unroll_batch(model, x.transpose(0, 1), torch.full((4,), 7)).states
    found = activity(model, x, torch.tensor([7, 1, 4, 2]), states)
    kept = 1 / (1 + math.exp(-2))
    assert found == pytest.approx({f"units/gate_forget_{kind}": kept for kind in ("mean", "p90")})


def test_chrono_keeps_for_u_days() -> None:
    """The bias of z is -log u: of the memory u/(1 + u) is kept each day."""
    _, net, _ = built("model=mingru_chrono", "data.max_days=200")
    bias = net.gates[0].bias.detach()
    model = blind(bias[:1].double())
    with torch.no_grad():
        model.output.weight.fill_(1)
    log10 = gradient_flow(model, torch.randn(1, 50, 1)).log10["state"][0]
    u = (-bias[0]).exp().double()
    expected = (u / (1 + u)).log10() * torch.arange(50).double()
    torch.testing.assert_close(log10, expected, rtol=1e-6, atol=1e-9)


def test_slopes_of_saturated_gates_are_small_and_not_0() -> None:
    """By autograd of sigmoids whose slopes do not cancel; torch.sigmoid's is 0 from 38 on."""
    a = torch.tensor([-300.0, -40, -1, 0, 2, 40, 300]).double().requires_grad_()
    n, k, w = (torch.randn(7).double().requires_grad_() for _ in range(3))
    ours = Gated.apply(a, n)
    theirs = sigmoid(-a), sigmoid(a) * n
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-14, atol=0)
    found = torch.autograd.grad(ours, (a, n), (k, w))
    expected = torch.autograd.grad(theirs, (a, n), (k, w))
    for one, other in zip(found, expected, strict=True):
        assert (one != 0).all()
        torch.testing.assert_close(one, other, rtol=1e-10, atol=0)


def test_flow_behind_saturated_gates() -> None:
    """1 - z = e^-50 a day, which 1 - sigmoid(50) would round to 0."""
    log10 = gradient_flow(blind(torch.tensor([50.0])), torch.randn(1, 20, 1)).log10["state"][0]
    torch.testing.assert_close(
        log10.diff(), torch.full((19,), -50 / math.log(10)).double(), rtol=1e-6, atol=0
    )
