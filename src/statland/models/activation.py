"""tanh, sigmoid and GELU with slopes that are right where units saturate, and modReLU.

PyTorch computes a slope from the value: 1 - tanh(a)^2 is exactly 0 beyond a = 19, though the slope
there is 10^-16. In float64, the precision of the measurements, these functions are written so that
autograd finds slopes to the last digits, up to |a| = 350. In single precision, where models are
trained, tanh and GELU are PyTorch's own.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import logsigmoid


class _Sigmoid(torch.autograd.Function):
    """torch.sigmoid, but with the slope sigmoid(a) sigmoid(-a)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        ctx.save_for_backward(a)
        return a.sigmoid()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (a,) = ctx.saved_tensors
        return grad * (a.sigmoid() * (-a).sigmoid())


def sigmoid(a: Tensor) -> Tensor:
    """Return sigmoid(a) of a pre-activation of any shape."""
    if a.dtype != torch.float64:
        return _Sigmoid.apply(a)
    return logsigmoid(a).exp() if torch.is_grad_enabled() else a.sigmoid()


def tanh(a: Tensor) -> Tensor:
    """Return tanh(a) of a pre-activation of any shape."""
    if a.dtype != torch.float64 or not torch.is_grad_enabled():
        return a.tanh()
    # Near 0 the first form loses digits of the value, and the slope of the second is right.
    return torch.where(a.abs() > 1, 2 * logsigmoid(2 * a).exp() - 1, a.tanh())


def gelu(a: Tensor) -> Tensor:
    """Return a Phi(a), with Phi the distribution function of a standard normal variable."""
    if a.dtype != torch.float64:
        return functional.gelu(a)
    return a * torch.erfc(a / -math.sqrt(2)) / 2  # 1 + erf would cancel far below 0


def tanh_slope(a: Tensor) -> Tensor:
    """Return the derivative of tanh at the pre-activation a."""
    return a.cosh().square().reciprocal()


def modrelu(a: Tensor, c: Tensor) -> Tensor:
    """Return sign(a) relu(|a| + c) of a (..., H) and a bias c (H,).

    M. Arjovsky, A. Shah and Y. Bengio, "Unitary evolution recurrent neural networks", ICML 2016.
    """
    return (a.abs() + c).relu().copysign(a)


def modrelu_(a: Tensor, c: Tensor) -> Tensor:
    """Apply `modrelu` in place of a."""
    size = a.abs().add_(c).relu_()
    return torch.copysign(size, a, out=a)
