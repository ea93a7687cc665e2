"""What the recurrence does to small changes: singular values, eigenvalues, Lyapunov exponents."""

import torch
from torch import Tensor

from statland.gradients.flow import frozen
from statland.models.base import RecurrentModel


def recurrent_matrices(model: RecurrentModel) -> dict[str, Tensor]:
    """Each layer's recurrent matrix (H, H), in an LSTM each gate's, by name."""
    matrices = {}
    for index in range(model.num_layers):
        blocks = model.layer(index).weight_hh.detach().split(model.hidden_size)
        names = [f"_{gate}" for gate in model.gates] or [""]
        for name, block in zip(names, blocks, strict=True):
            matrices[f"weight_hh_l{index}{name}"] = block
    return matrices


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


def linear_decay(model: RecurrentModel) -> float | None:
    """Decades a day by theory: log10 g where the recurrence is g times an orthogonal matrix.

    log10|w| for a scalar of weight w. None where the recurrence is not linear, nor linear as long
    as its ReLUs are active, or stretches some directions more than others.
    """
    matrix = model.linear_recurrence()
    if matrix is None or not matrix.isfinite().all():
        return None
    values = torch.linalg.svdvals(matrix.cpu().double())
    if values[0] == 0 or values[-1] < values[0] * (1 - 1e-5):
        return None
    return values[0].log10().item()


def lyapunov_spectrum(model: RecurrentModel, x: Tensor, count: int | None = None) -> Tensor:
    """The largest `count` Lyapunov exponents of ds_t/ds_{t-1}, by default all S; (count,).

    In nats a day, largest first, averaged over the T days and the B companies of x (B, T, F), all
    of them trading on every day. Each day `count` orthonormal tangents are carried one day further
    and made orthonormal again by QR; the exponents are the mean logarithms of R's diagonal.
    G. Benettin, L. Galgani, A. Giorgilli and J.-M. Strelcyn, Meccanica 15 (1980). -inf where the
    state forgets a direction at once; nan where it overflows.
    """
    model, x = frozen(model), x.detach().to("cpu", torch.float64)
    companies, size = len(x), model.state_size
    count = size if count is None else min(count, size)
    state = model.initial_state(companies)
    start = torch.randn(size, count, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
    tangents = torch.linalg.qr(start).Q.T.expand(companies, -1, -1)  # (B, count, S)
    sums = torch.zeros(companies, count, dtype=x.dtype)
    for x_t in x.unbind(1):
        state, carried = _one_day(model, x_t, state, tangents)
        if not carried.isfinite().all():
            return torch.full((count,), torch.nan, dtype=x.dtype)
        Q, R = torch.linalg.qr(carried.mT)
        tangents = Q.mT
        sums += R.diagonal(dim1=1, dim2=2).abs().log()
    return (sums / x.shape[1]).mean(0).sort(descending=True).values


def _one_day(
    model: RecurrentModel, x_t: Tensor, state: Tensor, tangents: Tensor
) -> tuple[Tensor, Tensor]:
    """The next state (B, S), and the tangents (B, count, S) times ds_t/ds_{t-1}.

    The pullback J^T v is linear in v; pulling q back through it gives J q. (Forward-mode autograd
    would do it in one pass, and take a second to import.)
    """
    companies, count, size = tangents.shape
    before = state.repeat_interleave(count, 0).requires_grad_()
    with torch.enable_grad():
        after = model.cell(x_t.repeat_interleave(count, 0), before)
        v = torch.zeros_like(after, requires_grad=True)
        (pulled,) = torch.autograd.grad(after, before, v, create_graph=True)
    (carried,) = torch.autograd.grad(pulled, v, tangents.reshape(-1, size))
    return after.detach().view(companies, count, size)[:, 0], carried.view_as(tangents)
