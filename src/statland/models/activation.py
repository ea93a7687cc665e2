"""tanh and sigmoid with slopes that do not cancel, and modReLU.

PyTorch computes them from the value: 1 - tanh(a)^2 is exactly 0 beyond a = 19, and a quarter of a
decade off just below, though the slope there is 10^-16. Here they come from the pre-activation a:

    d tanh(a)/da    = 1 / cosh(a)^2
    d sigmoid(a)/da = sigmoid(a) sigmoid(-a)

right to the last digits as far as float64 goes: |a| = 354 for tanh, 708 for sigmoid. The values
are those of torch.tanh and torch.sigmoid, and both can be differentiated as often as you like.
"""

from typing import Any

import torch
from torch import Tensor


class _OfPreActivation(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)


class _Tanh(_OfPreActivation):
    @staticmethod
    def forward(a: Tensor) -> Tensor:
        return a.tanh()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (a,) = ctx.saved_tensors
        return grad * tanh_slope(a)


class _Sigmoid(_OfPreActivation):
    @staticmethod
    def forward(a: Tensor) -> Tensor:
        return a.sigmoid()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (a,) = ctx.saved_tensors
        return grad * sigmoid_slope(a)


def tanh(a: Tensor) -> Tensor:
    """tanh(a) of a pre-activation of any shape."""
    return _Tanh.apply(a) if a.requires_grad else a.tanh()


def sigmoid(a: Tensor) -> Tensor:
    """sigmoid(a) of a pre-activation of any shape."""
    return _Sigmoid.apply(a) if a.requires_grad else a.sigmoid()


def tanh_slope(a: Tensor) -> Tensor:
    """The derivative of tanh at the pre-activation a."""
    return a.cosh().square().reciprocal()


def sigmoid_slope(a: Tensor) -> Tensor:
    """The derivative of sigmoid at the pre-activation a."""
    return a.sigmoid() * (-a).sigmoid()


def modrelu(a: Tensor, c: Tensor) -> Tensor:
    """sign(a) relu(|a| + c): of values a (..., H) and a bias c (H,), by whose sign units are off.

    M. Arjovsky, A. Shah and Y. Bengio, "Unitary evolution recurrent neural networks", ICML 2016.
    """
    return (a.abs() + c).relu().copysign(a)


def modrelu_(a: Tensor, c: Tensor) -> Tensor:
    """The same in place of a."""
    size = a.abs().add_(c).relu_()
    return torch.copysign(size, a, out=a)
