"""Norms of gradients and updates against sums in exact arithmetic."""

import math
from fractions import Fraction

import pytest
import torch
from torch import nn

from statland.gradients.norms import log10, parameter_norms, update_ratios


@pytest.mark.parametrize("size", [3e38, 1.0, 1e-45])
def test_parameter_norms_are_right_where_float32_is_not(size: float) -> None:
    model = nn.Linear(3, 2)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter).clamp(-1, 1) * size
    norms = parameter_norms(dict(model.named_parameters()))
    assert list(norms) == ["weight", "bias"]
    for name, parameter in model.named_parameters():
        exact = sum(Fraction(v) ** 2 for v in parameter.grad.flatten().tolist())
        log = (math.log10(exact.numerator) - math.log10(exact.denominator)) / 2 if exact else None
        if log is None:
            assert norms[name] == 0
            assert log10(norms[name]) == -math.inf
        else:
            assert log10(norms[name]) == pytest.approx(log, abs=1e-9)


def test_update_ratios() -> None:
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    zero = nn.Parameter(torch.zeros(2))
    before = {"weight": weight.detach().clone(), "zero": zero.detach().clone()}
    with torch.no_grad():
        weight += torch.tensor([0.03, -0.04])
    ratios = update_ratios(before, {"weight": weight, "zero": zero})
    assert ratios["weight"] == pytest.approx(0.01, rel=1e-5)
    assert math.isnan(ratios["zero"])


def test_log10_of_what_is_no_number() -> None:
    assert log10(100.0) == 2
    assert log10(0.0) == -math.inf
    assert log10(math.inf) == math.inf
    assert math.isnan(log10(math.nan))
