"""The hand-written sweep against closed forms, central differences and autograd, in float64."""

import pytest
import torch
from torch import Tensor

from statland.models import linear_recurrence as module
from statland.models.linear_recurrence import linear_recurrence

DTYPES = [torch.float64, torch.complex128]


def by_loop(a: Tensor, b: Tensor) -> Tensor:
    """The equation a day at a time, for autograd to go back through."""
    h, found = torch.zeros_like(b[0]), []
    for day in range(len(b)):
        h = (a if a.ndim == 1 else a[day]) * h + b[day]
        found.append(h)
    return torch.stack(found)


def drawn(dtype: torch.dtype, is_constant: bool, days: int) -> tuple[Tensor, Tensor]:
    a = torch.randn((4,) if is_constant else (days, 3, 4), dtype=dtype)
    b = torch.randn(days, 3, 4, dtype=dtype)
    return (0.9 * a / a.abs().amax()).requires_grad_(), b.requires_grad_()


@pytest.mark.parametrize("days", [1, 7])
@pytest.mark.parametrize("is_constant", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_backward_against_central_differences(
    dtype: torch.dtype, is_constant: bool, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", 24)  # two days: the sweep has seams
    assert torch.autograd.gradcheck(linear_recurrence, drawn(dtype, is_constant, days))


@pytest.mark.parametrize("block", [1, 40])
@pytest.mark.parametrize("is_constant", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_autograd_through_the_same_loop(
    dtype: torch.dtype, is_constant: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any layout, whatever arrives from above, and without a change to what it was given."""
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", block)
    a, b = drawn(dtype, is_constant, 300)
    turned = b.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    weights = torch.randn(300, 3, 4, dtype=dtype)
    before = a.detach().clone(), b.detach().clone()
    results = []
    for recurrence, b_in in ((linear_recurrence, b), (linear_recurrence, turned), (by_loop, b)):
        h = recurrence(a, b_in)
        inner, last = (h * weights).sum().abs(), h.abs()[-1].sum()  # the last day's is expanded
        found = [torch.autograd.grad(part, (a, b_in), retain_graph=True) for part in (inner, last)]
        results.append([h, *found[0], *found[1]])
    for ours in results[:2]:
        for one, other in zip(ours, results[2], strict=True):
            assert one.is_contiguous() or one.stride() == turned.stride()
            assert (one - other).norm() <= 1e-12 * other.norm()
    assert torch.equal(before[0], a)
    assert torch.equal(before[1], b)


def test_there_is_no_second_derivative() -> None:
    a, b = drawn(torch.float64, True, 3)
    (found,) = torch.autograd.grad(linear_recurrence(a, b).square().sum(), a, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        found.sum().backward()
