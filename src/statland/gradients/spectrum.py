"""What the recurrence does to small changes: singular values, eigenvalues, Lyapunov exponents."""

import torch
from torch import Tensor

from statland.gradients.flow import frozen
from statland.gradients.sweep import SEGMENT, norm, unrolled
from statland.models.base import RecurrentModel, SequenceModel


def spectral_radius(matrix: Tensor) -> float:
    """The largest absolute eigenvalue of (H, H); nan where an element is not finite."""
    if not matrix.isfinite().all():
        return float("nan")
    return torch.linalg.eigvals(matrix.cpu().double()).abs().max().item()


def largest_singular_value(matrix: Tensor) -> float:
    """The most that (H, H) stretches any vector; nan where an element is not finite."""
    if not matrix.isfinite().all():
        return float("nan")
    return torch.linalg.matrix_norm(matrix.cpu().double(), 2).item()


def linear_decay(model: SequenceModel) -> float | None:
    """Decades a day by theory: log10 g where the recurrence is g times an orthogonal matrix.

    log10|w| for a scalar of weight w. None where the recurrence is not linear, nor linear as long
    as its ReLUs are active, or stretches some directions more than others.
    """
    matrix = model.linear_recurrence() if isinstance(model, RecurrentModel) else None
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
    size = model.state_size
    count = size if count is None else min(count, size)
    run = unrolled(model, x, torch.full((companies,), days))
    start = torch.randn(size, count, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
    Q = torch.linalg.qr(start).Q.expand(companies, -1, -1)  # (B, S, count)
    sums = torch.zeros(companies, count, dtype=x.dtype)
    for day in reversed(range(days)):
        if day == days - 1 or day % SEGMENT == SEGMENT - 1:
            segment = slice(day - day % SEGMENT, day + 1)
            pull = model.pullback(x[segment], run.before[segment])
        carried = pull(day % SEGMENT, Q.permute(2, 0, 1))[0].permute(1, 2, 0)
        if not carried.isfinite().all():
            return torch.full((count,), torch.nan, dtype=x.dtype)
        Q, R = torch.linalg.qr(carried)
        grown = R.diagonal(dim1=1, dim2=2).abs()
        # The numerical rank, as numpy.linalg.matrix_rank has it: what is smaller is rounding.
        largest = norm(R.mT).amax(1, keepdim=True)
        is_rounding = grown <= size * torch.finfo(R.dtype).eps * largest
        sums += grown.masked_fill(is_rounding, 0).log()
    return (sums / days).mean(0).sort(descending=True).values
