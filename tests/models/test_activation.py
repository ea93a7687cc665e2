"""tanh and sigmoid against their closed forms, far into saturation."""

import math

import pytest
import torch
from torch import Tensor

from statland.models import activation

POINTS = [0.0, 1e-9, 0.3, 2.5, 18.9, 19.0, 20.0, 40.0, 300.0]
PRE_ACTIVATIONS = torch.tensor(POINTS + [-a for a in POINTS], dtype=torch.float64)


def slope(name: str, a: Tensor) -> Tensor:
    a = a.clone().requires_grad_()
    (found,) = torch.autograd.grad(getattr(activation, name)(a).sum(), a)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_values_are_those_of_torch(name: str, dtype: torch.dtype) -> None:
    a = torch.cat([PRE_ACTIVATIONS, 5 * torch.randn(1000), torch.tensor([math.inf])]).to(dtype)
    assert torch.equal(getattr(activation, name)(a), getattr(torch, name)(a))


def test_slopes_equal_their_closed_forms_in_logarithms() -> None:
    """ln sech^2(a) = ln 4 - 2|a| - 2 ln(1 + e^(-2|a|)); sigmoid'(a) = sech^2(a / 2) / 4."""
    size = PRE_ACTIVATIONS.abs()
    expected = math.log(4) - 2 * size - 2 * (-2 * size).exp().log1p()
    torch.testing.assert_close(
        slope("tanh", PRE_ACTIVATIONS).log(), expected, rtol=1e-14, atol=1e-14
    )
    found = slope("sigmoid", 2 * PRE_ACTIVATIONS)
    torch.testing.assert_close((4 * found).log(), expected, rtol=1e-14, atol=1e-14)
    # 10^-16.77 at a = 20, where 1 - tanh^2 is exactly 0
    assert slope("tanh", torch.tensor([20.0]).double()).log10().item() == pytest.approx(
        -16.7698, abs=1e-4
    )


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_they_can_be_differentiated_twice(name: str) -> None:
    a = torch.tensor([-3.0, -0.4, 0.0, 0.7, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(getattr(activation, name), (a,))
    assert torch.autograd.gradgradcheck(getattr(activation, name), (a,))
