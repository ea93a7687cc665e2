"""tanh, sigmoid and GELU against their closed forms, far into saturation."""

import math

import mpmath
import pytest
import torch
from torch import Tensor, nn

from statland.models import activation

POINTS = [0.0, 1e-9, 0.3, 0.999, 1.001, 2.5, 18.9, 19.0, 20.0, 40.0, 350.0]
PRE_ACTIVATIONS = torch.tensor(POINTS + [-a for a in POINTS], dtype=torch.float64)
TORCH = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "gelu": nn.functional.gelu}


def slope(name: str, a: Tensor) -> Tensor:
    a = a.clone().requires_grad_()
    (found,) = torch.autograd.grad(getattr(activation, name)(a).sum(), a)
    return found


@pytest.mark.parametrize("name", TORCH)
def test_values_are_those_of_torch(name: str) -> None:
    a = torch.cat([PRE_ACTIVATIONS, 5 * torch.randn(1000).double()])
    ours = getattr(activation, name)
    torch.testing.assert_close(ours(a), TORCH[name](a), rtol=4e-16, atol=4e-16)
    assert torch.equal(ours(a.float()), TORCH[name](a.float()))
    assert ours(torch.tensor([math.inf]).double()) == TORCH[name](torch.tensor([math.inf]))


def test_slopes_equal_their_closed_forms_in_logarithms() -> None:
    """ln sech^2(a) = ln 4 - 2|a| - 2 ln(1 + e^(-2|a|)); sigmoid'(a) = sech^2(a / 2) / 4."""
    size = PRE_ACTIVATIONS.abs()
    expected = math.log(4) - 2 * size - 2 * (-2 * size).exp().log1p()
    found = {
        "tanh": slope("tanh", PRE_ACTIVATIONS),
        "sigmoid": 4 * slope("sigmoid", 2 * PRE_ACTIVATIONS),
        "tanh_slope": activation.tanh_slope(PRE_ACTIVATIONS),
    }
    for values in found.values():
        torch.testing.assert_close(values.log(), expected, rtol=1e-14, atol=1e-14)
    # 10^-16.77 at a = 20, where 1 - tanh^2 is exactly 0
    assert slope("tanh", torch.tensor([20.0]).double()).log10().item() == pytest.approx(
        -16.7698, abs=1e-4
    )


def test_slope_of_gelu_in_many_digits() -> None:
    a = torch.tensor([-30.0, -12.0, -7.5, -0.75, 0.0, 0.3, 9.0]).double()
    with mpmath.workdps(300):
        expected = [float(mpmath.diff(lambda v: v * mpmath.ncdf(v), v)) for v in a.tolist()]
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(slope("gelu", a), expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize("name", TORCH)
def test_they_can_be_differentiated_twice(name: str) -> None:
    a = torch.tensor([-3.0, -0.4, 0.0, 0.7, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(getattr(activation, name), (a,))
    assert torch.autograd.gradgradcheck(getattr(activation, name), (a,))
