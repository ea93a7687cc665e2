"""Norms of gradients and of updates, parameter by parameter.

Sums of squares are taken in float64, where gradients of 1e20 and of 1e-30 neither overflow nor
vanish.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def parameter_norms(parameters: Mapping[str, nn.Parameter]) -> dict[str, float]:
    """The 2-norm of each parameter's gradient as it is now, by the parameter's name."""
    return {name: _norm(p.grad) for name, p in parameters.items() if p.grad is not None}


def update_ratios(
    before: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]
) -> dict[str, float]:
    """The norm of each parameter's update over its norm before; nan where that was 0.

    `before` holds copies of the parameters by name, from before the update.
    """
    ratios = {}
    for name, parameter in parameters.items():
        weight = _norm(before[name])
        update = _norm(parameter.detach() - before[name])
        ratios[name] = update / weight if weight > 0 else math.nan
    return ratios


def log10(value: float) -> float:
    """log10 of a norm: -inf for an exact zero, nan and inf as they are."""
    return math.log10(value) if value > 0 else -math.inf if value == 0 else value


def log10_sum(log10: Tensor) -> Tensor:
    """log10 of the sum over the last dimension of values given by their log10."""
    return (math.log(10) * log10.double()).logsumexp(-1) / math.log(10)


def log10_norm(log10: Tensor) -> Tensor:
    """log10 of their 2-norm; -inf where all are 0, or there is none."""
    return log10_sum(2 * log10) / 2


def _norm(tensor: Tensor) -> float:
    tensor = tensor.cpu() if tensor.is_mps else tensor  # mps has no float64
    return torch.linalg.vector_norm(tensor, dtype=torch.float64).item()
