"""The gated delta rule by its equation, its laws as a memory, and the network around it."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.testing import assert_close

from statland.gradients import gradient_flow
from statland.models.base import RecurrentModel, evaluating
from statland.models.delta_rule import CHUNK, Entry, read_all_days, store, store_all_days
from statland.models.gated_deltanet import GatedDeltaNet

DAYS = [1, CHUNK, CHUNK + 1, 3 * CHUNK + 3]


def entries(*shape: int, size: int = 5) -> Entry:
    """Random ones; alpha from about 0.0003 to 1, beta from 0 to 1."""
    k, v = torch.randn(2, *shape, size).double()
    log_alpha, beta = -torch.rand(*shape).double().pow(4) * 8, torch.rand(*shape).double()
    return Entry(normalize(k, dim=-1), v, log_alpha, beta)


def on(x: Entry, place: int) -> Entry:
    """Of one history, or one day, of several."""
    return Entry(*(values[place] for values in x))


def by_the_paper(S: Tensor, x: Entry) -> Tensor:
    """S_t = alpha S_{t-1} (I - beta k k^T) + beta v k^T, for one matrix."""
    erased = torch.eye(len(S)).double() - x.beta * torch.outer(x.k, x.k)
    return x.log_alpha.exp() * S @ erased + x.beta * torch.outer(x.v, x.k)


@pytest.mark.parametrize("days", DAYS)
def test_all_days_at_once_are_the_days_one_by_one(days: int) -> None:
    x, q = entries(3, days), torch.randn(3, days, 5).double()
    read, last = read_all_days(q, x), store_all_days(x)
    for place in range(3):
        S = torch.zeros(5, 5).double()
        for day in range(days):
            S = by_the_paper(S, on(on(x, place), day))
            assert_close(read[place, day], S @ q[place, day], rtol=1e-11, atol=1e-13)
        assert_close(last[place], S, rtol=1e-11, atol=1e-13)


def test_all_days_at_once_where_nearly_all_is_forgotten_in_float32() -> None:
    """alpha of e^-300 on some days: what later days keep must not be lost in its rounding."""
    x, q = entries(2, 40), torch.randn(2, 40, 5).double()
    x.log_alpha[:, ::3] -= 300
    exact = read_all_days(q, x)
    single = read_all_days(q.float(), Entry(*(values.float() for values in x)))
    assert_close(single.double(), exact, rtol=0, atol=3e-6)


def test_beta_1_forgets_what_was_stored_under_the_same_key() -> None:
    """Exactly that: the key reads the new value, keys at right angles what they read before."""
    x = entries(6)
    x = x._replace(beta=torch.ones_like(x.beta), log_alpha=torch.zeros_like(x.log_alpha))
    S = torch.randn(6, 5, 5).double()
    after = store(S, x)
    again = store(store(S, x._replace(v=torch.randn_like(x.v))), x)
    assert_close((after @ x.k[..., None])[..., 0], x.v, rtol=0, atol=1e-12)
    assert_close(again, after, rtol=0, atol=1e-12)
    across = torch.linalg.qr(x.k[..., None], mode="complete").Q[..., 1:]  # (6, 5, 4)
    assert_close(after @ across, S @ across, rtol=0, atol=1e-12)
    # So does the gradient: of S before, nothing that lay along the key is felt.
    S.requires_grad_()
    (at_before,) = torch.autograd.grad(store(S, x), S, torch.randn_like(S))
    assert_close((at_before @ x.k[..., None])[..., 0], torch.zeros_like(x.v), rtol=0, atol=1e-12)
    assert at_before.abs().max() > 0.1


def unwritten(alpha: float) -> GatedDeltaNet:
    """A network whose gates stand still, with beta 0."""
    model = GatedDeltaNet(1, 1, 8, 1, 2, 4).double()
    (layer,) = model.blocks
    with torch.no_grad():
        layer.gates.weight.zero_()
        layer.gates.bias[2:] = -1e4
        # -exp(A_log) softplus(a) = log(alpha); exp(-inf) is 0.
        layer.A_log.fill_(-math.inf if alpha == 1 else 0)
        layer.gates.bias[:2] = 0 if alpha == 1 else math.log(math.expm1(-math.log(alpha)))
    return model


@pytest.mark.parametrize(("alpha", "days"), [(1.0, 400), (0.5, 200)])
def test_a_memory_that_is_not_written_holds_or_falls_by_alpha(alpha: float, days: int) -> None:
    """By log10 of alpha a day, exactly; at lag 0 the memory is read through y alone."""
    flow = gradient_flow(unwritten(alpha), torch.rand(2, days, 1)).log10
    assert (flow["S"][:, 0] == -math.inf).all()
    steps = flow["S"][:, 2:] - flow["S"][:, 1:-1]
    assert (steps - math.log10(alpha)).abs().max() < 1e-10
    fallen = flow["S"][:, -1] - flow["S"][:, 1]
    assert (fallen - (days - 2) * math.log10(alpha)).abs().max() < 1e-9
    assert flow["y"][:, 0].isfinite().all()
    assert (flow["y"][:, 1:] == -math.inf).all()
    assert (flow["x"][:, 1:] == -math.inf).all()  # nothing of the inputs is stored


def test_gates_and_keys_by_their_equations() -> None:
    model = GatedDeltaNet(2, 1, 8, 2, 3, 4).double()
    x, state = torch.randn(5, 2).double(), model.initial_state(5)
    with evaluating(model), torch.no_grad():
        found = model.activations(x, state)
        layer, h = model.blocks[0], model.embedding(x)
        n = h / (h.square().mean(1, keepdim=True) + 1e-6).sqrt()
        a, b = layer.gates(n).chunk(2, dim=1)
        alpha = (-layer.A_log.exp() * (1 + a.exp()).log()).exp()
        assert_close(found["forget"][:, 0], alpha, rtol=1e-12, atol=0)
        assert_close(found["input"][:, 0], 1 / (1 + (-b).exp()), rtol=1e-12, atol=0)
        entry, (our_q, gate) = layer.stored(h), layer.asked(h)
        z = layer.in_projection(n)
        q, k, v, g = (z / (1 + (-z).exp())).view(5, 4, 3, 4).unbind(1)
    for ours, theirs in ((our_q, q), (entry.k[:, 0], k)):
        assert_close(ours, theirs / theirs.square().sum(2, keepdim=True).sqrt(), rtol=1e-12, atol=0)
    assert_close(entry.v[:, 0], v, rtol=1e-12, atol=0)
    assert_close(gate, g, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("beta_max", "steps"), [(2.0, 1), (1.0, 3), (2.0, 2)])
def test_steps_of_a_day_are_taken_in_turn(beta_max: float, steps: int) -> None:
    """By the paper's equation, alpha in the first alone; and all days at once, gradients too."""
    model = GatedDeltaNet(2, 1, 8, 2, 3, 4, beta_max, steps).double()
    layer, h, S = model.blocks[0], torch.randn(1, 8).double(), torch.randn(1, 3, 4, 4).double()
    z = layer.in_projection(h / (h.square().mean(1, keepdim=True) + 1e-6).sqrt())
    z = (z / (1 + (-z).exp())).view(2 + 2 * steps, 3, 4)
    stored = layer.stored(h)
    assert_close(
        stored.beta.flatten() / beta_max,
        layer.gates(h / (h.square().mean(1, keepdim=True) + 1e-6).sqrt())[0, 3:].sigmoid(),
    )
    expected = S[0]
    for step, (k, v) in enumerate([(1, 2), *((i, i + 1) for i in range(4, 2 + 2 * steps, 2))]):
        one = stored._replace(k=normalize(z[k], dim=-1)[None, None], v=z[v][None, None])
        one = Entry(one.k[0, 0], one.v[0, 0], stored.log_alpha[0, step], stored.beta[0, step])
        assert step == 0 or not one.log_alpha.any()
        expected = torch.stack([by_the_paper(expected[a], on(one, a)) for a in range(3)])
    found = S
    for step in zip(*(values.unbind(1) for values in stored), strict=True):
        found = store(found, Entry(*step))
    assert_close(found[0], expected, rtol=1e-12, atol=1e-13)

    x, lengths = torch.randn(3, 40, 2).double(), torch.tensor([40, 1, 17])
    parameters = list(model.parameters())
    forms = [RecurrentModel.forward(model, x, lengths), model(x, lengths)]
    forms.append(model.every_day(x)[torch.arange(3), lengths - 1])
    by_cell, *fast = (torch.autograd.grad(p.square().sum(), parameters) for p in forms)
    for prediction in forms[1:]:
        assert_close(prediction, forms[0], rtol=1e-10, atol=1e-12)
    for gradients in fast:
        for ours, theirs in zip(gradients, by_cell, strict=True):
            assert (ours - theirs).norm() <= 1e-9 * theirs.norm()


def test_at_rest_alpha_is_as_mamba2_begins() -> None:
    """softplus(a) from 0.001 to 0.1 a day, log-uniform, times A from 1 to 16."""
    layer = GatedDeltaNet(1, 1, 4, 1, 1000, 1).blocks[0]
    at_rest = torch.nn.functional.softplus(layer.gates.bias[:1000].double()).log10()
    assert -3 <= at_rest.min() < -2.95
    assert -1.05 < at_rest.max() <= -1 + 1e-6
    assert abs(at_rest.mean() + 2) < 0.1
    A = layer.A_log.exp()
    assert 1 <= A.min() < 1.2
    assert 15.8 < A.max() <= 16.01
