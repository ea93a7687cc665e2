"""The GRU against torch.nn.GRU and closed forms, in float64."""

import torch
from torch import Tensor

from statland.gradients import gradient_flow
from statland.gradients.spectrum import lyapunov_spectrum
from statland.models.base import unroll
from statland.models.gru import GRU
from statland.models.init import default


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


def test_activations_are_those_of_nn_gru() -> None:
    """h_t - n = z (h_{t-1} - n): what the model says of z and n gives the state of nn.GRU."""
    model = GRU(1, 1, 4, 2, default).double()
    x = torch.randn(3, 9, 1).double()
    with torch.no_grad():
        before = unroll(model, x)["h"][-2]
        found = model.activations(x[:, -1], {"h": before})
        top = model.recurrence(x.transpose(0, 1))[0][-1]
    n = found["tanh"].tanh()
    expected = n + found["forget"] * (before - n)
    torch.testing.assert_close(expected[:, -1], top, rtol=1e-12, atol=1e-12)
