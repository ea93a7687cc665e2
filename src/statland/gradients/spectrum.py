"""What the recurrence does to small changes: singular values, eigenvalues, Lyapunov exponents."""

import math

import torch
from torch import Tensor, nn

from statland.gradients.backward import flat, inner_product, norm, unroll_batch
from statland.gradients.frozen import frozen
from statland.models.base import RecurrentModel, State


def spectral_radius(matrix: Tensor) -> float:
    """The largest absolute eigenvalue of (H, H); nan where an element is not finite."""
    known = matrix.isfinite().all()
    return torch.linalg.eigvals(matrix.cpu().double()).abs().max().item() if known else math.nan


def largest_singular_value(matrix: Tensor) -> float:
    """The most that (H, H) stretches any vector; nan where an element is not finite."""
    known = matrix.isfinite().all()
    return torch.linalg.matrix_norm(matrix.cpu().double(), 2).item() if known else math.nan


def linear_decay(model: nn.Module) -> float | None:
    """Decades a day by theory: log10 g where the recurrence is g times an orthogonal matrix.

    log10|w| for a scalar of weight w. None where the recurrence is not linear, nor linear as long
    as its ReLUs are active, or stretches some directions more than others.
    """
    matrix = getattr(model, "linear_recurrence", None)
    if matrix is None or not matrix.isfinite().all():
        return None
    values = torch.linalg.svdvals(matrix.cpu().double())
    if values[0] == 0 or values[-1] < values[0] * (1 - 1e-5):
        return None
    return values[0].log10().item()


def lyapunov_spectrum(model: RecurrentModel, x: Tensor, count: int | None = None) -> Tensor:
    """The largest `count` Lyapunov exponents of ds_t/ds_{t-1}, by default all S; (count,).

    In nats a day, largest first, averaged over the T days and the B companies of x (B, T, F), all
    of them trading on every day. Each day `count` orthonormal gradients are carried one day back
    and made orthonormal again by QR; the exponents are the mean logarithms of R's diagonal.
    G. Benettin, L. Galgani, A. Giorgilli and J.-M. Strelcyn, Meccanica 15 (1980), who carry
    tangents forward: the exponents of a product of matrices and of its transpose are the same.
    -inf where a direction is forgotten at once, so that float64 has nothing left of it beside the
    largest; nan where the state overflows to nan.
    """
    model, x = frozen(model), x.detach().to("cpu", torch.float64).transpose(0, 1)
    days, companies, _ = x.shape
    states = unroll_batch(model, x, torch.full((companies,), days)).states
    size = sum(part[0, 0].numel() for part in states.values())  # S
    count = size if count is None else min(count, size)
    start = torch.randn(size, count, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
    Q = torch.linalg.qr(start).Q.expand(companies, -1, -1)  # (B, S, count)
    sums = torch.zeros(companies, count, dtype=x.dtype)
    for day in reversed(range(days)):
        carried = _day_back(model, x[day], {name: part[day] for name, part in states.items()}, Q)
        if not carried.isfinite().all():
            return torch.full((count,), torch.nan, dtype=x.dtype)
        Q, R = torch.linalg.qr(carried)
        grown = R.diagonal(dim1=1, dim2=2).abs()
        # The numerical rank, as numpy.linalg.matrix_rank has it: what is smaller is rounding.
        largest = norm(R.mT).amax(1, keepdim=True)
        is_rounding = grown <= size * torch.finfo(R.dtype).eps * largest
        sums += grown.masked_fill(is_rounding, 0).log()
    return (sums / days).mean(0).sort(descending=True).values


def _day_back(model: RecurrentModel, x_t: Tensor, before: State, Q: Tensor) -> Tensor:
    """Carry the columns of Q (B, S, count), gradients at the state after a day, to before it.

    x_t is (B, F), the state before the day (B, ...). All columns go at once, as companies more.
    """
    count = Q.shape[2]
    shapes = {name: part.shape[1:] for name, part in before.items()}
    sizes = [shape.numel() for shape in shapes.values()]
    columns = Q.transpose(1, 2).flatten(0, 1).split(sizes, dim=1)  # (B * count, size) each
    v = {name: c.view(-1, *shapes[name]) for name, c in zip(shapes, columns, strict=True)}
    rows = {n: part.repeat_interleave(count, 0).requires_grad_() for n, part in before.items()}
    with torch.enable_grad():
        after = model.cell(x_t.repeat_interleave(count, 0).requires_grad_(), rows)
        total = inner_product(after, v)
    found = torch.autograd.grad(total, list(rows.values()), materialize_grads=True)
    return torch.cat([flat(g, 1) for g in found], 1).unflatten(0, (-1, count)).transpose(1, 2)
