"""The linear recurrent unit against its equations and closed forms, in float64."""

import math

import pytest
import torch
from torch import Tensor, nn

from statland.gradients import gradient_flow
from statland.gradients.spectrum import largest_singular_value, lyapunov_spectrum, spectral_radius
from statland.models.base import unroll
from statland.models.lru import LRU, LRUBlock


def lru(
    hidden: int = 6,
    modes: int = 5,
    layers: int = 1,
    ring: tuple[float, float, float] = (0.0, 1.0, 6.28),
    inputs: int = 1,
) -> LRU:
    return LRU(inputs, 1, hidden, modes, layers, *ring).double()


def eigenvalues(block: nn.Module) -> Tensor:
    """lambda (N,), as the paper writes it."""
    assert isinstance(block, LRUBlock)
    return torch.exp(-block.nu.exp() + 1j * block.theta.exp()).detach()


def by_the_sum(model: LRU, x: Tensor) -> Tensor:
    """The prediction of x (B, T, F) in complex numbers, without a recurrence.

    h_t is the sum over s <= t of lambda^(t - s) gamma B n_s.
    """
    days = x.shape[1]
    lags = torch.arange(days)[:, None] - torch.arange(days)
    u = model.encoder(x)
    for block in model.blocks:
        n = nn.functional.layer_norm(u, u.shape[-1:], block.norm.weight, block.norm.bias)
        B, C = torch.view_as_complex(block.B.transpose(1, 2).contiguous()), block.C
        fed = block.log_gamma.exp() * (n.to(B.dtype) @ B.T)  # (B, T, N)
        powers = eigenvalues(block) ** lags.clamp(min=0)[..., None] * (lags >= 0)[..., None]
        h = torch.einsum("tsn,bsn->btn", powers, fed)
        y = (h @ torch.view_as_complex(C).T).real + block.D * n
        u = u + nn.functional.glu(block.glu(nn.functional.gelu(y)))
    return model.output(u)


@pytest.mark.parametrize("layers", [1, 3])
def test_equals_the_sum_over_all_days_in_complex_numbers(layers: int) -> None:
    model = lru(layers=layers, inputs=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # norms and gammas not at rest
        x, lengths = torch.randn(4, 60, 2).double(), torch.tensor([60, 1, 33, 2])
        expected = by_the_sum(model, x)[torch.arange(4), lengths - 1]
        torch.testing.assert_close(model(x, lengths), expected, rtol=1e-11, atol=1e-11)
        unrolled = model.readout({"y": unroll(model, x)["y"][-1]})
        torch.testing.assert_close(unrolled, by_the_sum(model, x)[:, -1], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("ring", [(0.0, 1.0, 6.28), (0.9, 0.999, 0.3)])
def test_lambda_is_spread_evenly_over_the_ring(ring: tuple[float, float, float]) -> None:
    """So |lambda|^2 and the angle are uniform: their quantiles are straight lines."""
    r_min, r_max, max_phase = ring
    block = lru(modes=4000, ring=ring).blocks[0]
    found = eigenvalues(block)
    assert (found.abs() >= r_min - 1e-6).all()
    assert (found.abs() <= r_max + 1e-6).all()
    even = (torch.arange(4000).double() + 0.5) / 4000
    squares = r_min**2 + even * (r_max**2 - r_min**2)
    # Kolmogorov and Smirnov: beyond 2 / sqrt(N) once in 1500.
    width = 2 / math.sqrt(4000)
    assert (found.abs().square().sort().values - squares).abs().max() < (
        width * (r_max**2 - r_min**2) + 1e-6
    )
    phases = block.theta.detach().exp().sort().values
    assert (phases - even * max_phase).abs().max() < width * max_phase
    # By gamma a mode that is fed with noise of variance 1 comes to rest at variance 1.
    gamma = block.log_gamma.detach().exp()
    expected = (1 - found.abs().square()).sqrt()
    assert (gamma - expected).abs().max() < 1e-3  # near 1, float32 rounds |lambda|
    inner = found.abs() < 0.99
    torch.testing.assert_close(gamma[inner], expected[inner], rtol=1e-5, atol=0)


@pytest.mark.parametrize("layers", [1, 2])
def test_y_is_read_today_and_forgotten_tomorrow(layers: int) -> None:
    """Its flow is 0 behind lag 0, and that of h, which is read by way of y, is 0 at lag 0."""
    log10 = gradient_flow(lru(layers=layers), torch.randn(3, 30, 1)).log10
    assert (log10["y"][:, 1:] == -math.inf).all()
    assert log10["y"][:, 0].isfinite().all()
    for part in ("re", "im"):
        assert (log10[part][:, 0] == -math.inf).all()
        assert log10[part][:, 1:].isfinite().all()
    assert log10["x"].isfinite().all()


def test_the_flow_one_layer_back_is_that_of_its_modes() -> None:
    """dp/dh_{t-k} = lambda^k dp/dh_t mode by mode, so the flow at every lag is a closed form."""
    model = lru(ring=(0.2, 0.999, 6.28))
    x = torch.randn(1, 80, 1).double()
    log10 = gradient_flow(model, x).log10["state"][0]
    with torch.no_grad():
        before = {name: days[-2].requires_grad_() for name, days in unroll(model, x).items()}
    model.readout(model.cell(x[:, -1], before)).sum().backward()
    weights = torch.hypot(before["re"].grad, before["im"].grad)[0, 0]  # by mode, at lag 1
    powers = eigenvalues(model.blocks[0]).abs() ** torch.arange(79)[:, None]
    expected = (weights * powers).norm(dim=1).log10()
    torch.testing.assert_close(log10[1:], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("layers", [1, 2])
def test_lyapunov_exponents_are_the_logs_of_the_moduli(layers: int) -> None:
    model = lru(modes=2, layers=layers, ring=(0.3, 0.99, 6.28))
    with torch.no_grad():
        for index, block in enumerate(model.blocks):
            moduli = torch.tensor([0.95, 0.6]) - 0.15 * index
            block.nu.copy_((-moduli.log()).log())
    moduli = torch.cat([eigenvalues(block).abs() for block in model.blocks])
    expected = moduli.log().repeat_interleave(2).sort(descending=True).values  # a turn is a plane
    found = lyapunov_spectrum(model, torch.randn(2, 500, 1))
    # The random start is a transient, of a day or two in 500.
    torch.testing.assert_close(found[: 4 * layers], expected, rtol=0, atol=0.02)
    assert (found[4 * layers :] == -math.inf).all()  # y


def test_gates_and_matrices_are_those_of_its_modes() -> None:
    model = lru(layers=2)
    moduli = torch.stack([eigenvalues(block).abs() for block in model.blocks])
    with torch.no_grad():
        for block in model.blocks:
            block.glu.weight.zero_()
            block.glu.bias.fill_(2)
        found = model.activations(torch.randn(4, 1).double(), model.initial_state(4))
    torch.testing.assert_close(found["forget"], moduli.expand(4, -1, -1), rtol=1e-14, atol=0)
    assert found["glu"].unique().item() == pytest.approx(1 / (1 + math.exp(-2)), rel=1e-14)
    for index, matrix in enumerate(model.recurrent_matrices().values()):
        largest = pytest.approx(moduli[index].max().item(), rel=1e-10)
        assert spectral_radius(matrix) == largest
        assert largest_singular_value(matrix) == largest
    assert list(model.recurrent_matrices()) == ["lambda_l0", "lambda_l1"]


@pytest.mark.parametrize("ring", [(0.0, 0.0, 0.1), (1.0, 1.0, 2 * math.pi), (0.0, 1.0, 1e-30)])
def test_the_ends_of_what_is_allowed_can_be_trained(ring: tuple[float, float, float]) -> None:
    model = LRU(1, 1, 2, 3, 2, *ring)
    prediction = model(torch.randn(2, 50, 1), torch.tensor([50, 7]))
    gradients = torch.autograd.grad(prediction.sum(), list(model.parameters()))
    assert prediction.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)
