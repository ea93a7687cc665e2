"""The orthogonal recurrence: its matrix, modReLU, and how often exp(A) is computed."""

import math

import pytest
import torch
from conftest import built
from scipy.linalg import expm
from torch import Tensor, nn
from torch.testing import assert_close

from statland.gradients import gradient_flow
from statland.gradients.spectrum import linear_decay, lyapunov_spectrum
from statland.models.exprnn import ExpRNN
from statland.training.fit import fit


def small(nonlinearity: str = "modrelu", hidden: int = 6, layers: int = 1) -> ExpRNN:
    return ExpRNN(2, 1, hidden, layers, nonlinearity).double()


def parameter_of(model: ExpRNN, index: int) -> nn.Parameter:
    return model.recurrence.get_parameter(f"parametrizations.weight_hh_l{index}.original")


def scrambled(model: ExpRNN) -> ExpRNN:
    """Its X drawn afresh, so that W no longer turns planes of two units."""
    with torch.no_grad():
        for index in range(model.recurrence.num_layers):
            nn.init.normal_(parameter_of(model, index))
    return model


def off_orthogonal(W: Tensor) -> float:
    return (W.T @ W - torch.eye(len(W), dtype=W.dtype)).abs().max().item()


def test_w_is_the_exponential_of_a_skew_symmetric_matrix() -> None:
    model = scrambled(small(layers=2))
    for index in range(2):
        X = parameter_of(model, index).detach().tril()
        expected = torch.from_numpy(expm((X - X.T).numpy()))
        assert_close(model.layer(index).weight_hh, expected, rtol=0, atol=1e-12)
        assert off_orthogonal(expected) < 1e-12


def test_w_starts_by_turning_planes() -> None:
    """Henaff's: by angles from -pi to pi; of an odd number of units the last stays."""
    W = small(hidden=201).layer(0).weight_hh.detach()
    angles = []
    for place in range(0, 200, 2):
        (a, b), (c, d) = W[place : place + 2, place : place + 2].tolist()
        assert a == pytest.approx(d)
        assert b == pytest.approx(-c)
        angles.append(math.atan2(c, a))
        W[place : place + 2, place : place + 2] = 0
    assert W[200, 200] == 1
    assert W.abs().sum() == 1  # nothing else
    assert min(angles) < -2.5
    assert max(angles) > 2.5
    assert abs(sum(angles) / 100) < 0.8


def test_w_stays_orthogonal_in_training() -> None:
    """200 steps in float32, large ones: W moves far and is orthogonal to 1e-5."""
    overrides = ("data=recall", "data.max_days=8", "optimizer.lr=0.03", "model.num_layers=2")
    market, model, optimizer = built("model=exprnn", *overrides)
    before = [w.weight_hh.detach().clone() for w in model.layers()]
    for _ in fit(model, market.train_batch, optimizer, 200, 1.0):
        pass
    for old, w in zip(before, model.layers(), strict=True):
        assert w.weight_hh.dtype == torch.float32
        assert (w.weight_hh - old).norm() > 1
        assert off_orthogonal(w.weight_hh.detach()) < 1e-5


def test_the_flow_through_identity_units_holds_for_1000_days() -> None:
    model = scrambled(small("identity", hidden=16)).float()  # measured in float64 all the same
    log10 = gradient_flow(model, torch.rand(3, 1000, 2)).log10["state"]
    assert (log10 - log10[:, :1]).abs().max() * math.log(10) < 1e-10
    assert lyapunov_spectrum(model, torch.rand(1, 50, 2)).abs().max() < 1e-12


def test_where_units_are_active_the_recurrence_is_w() -> None:
    for nonlinearity in ("identity", "relu", "modrelu"):
        model = small(nonlinearity)
        assert torch.equal(model.linear_recurrence, model.layer(0).weight_hh)
        assert linear_decay(model) == pytest.approx(0, abs=1e-12)
    assert small("tanh").linear_recurrence is None
    assert small("identity", layers=2).linear_recurrence is None


def test_modrelu_by_its_equation() -> None:
    """sign(a) relu(|a| + c): a negative c switches units off, a positive one lifts them."""
    model = ExpRNN(1, 1, 4, 1, "modrelu").double()
    with torch.no_grad():
        w = model.layer(0)
        w.weight_ih.copy_(torch.tensor([[0.5], [-0.5], [0.5], [-0.5]]))
        w.bias_ih.zero_()
        w.bias_hh.zero_()
        model.recurrence.own_bias(0)[0].copy_(torch.tensor([0.25, 0.25, -0.25, -0.75]))
    x_t, start = torch.ones(1, 1).double(), model.initial_state(1)
    after, found = model.cell(x_t, start)["h"], model.activations(x_t, start)["relu"]
    assert_close(after, torch.tensor([[[0.75, -0.75, 0.25, 0.0]]]).double(), rtol=1e-14, atol=0)
    assert_close(found, torch.tensor([[[0.75, 0.75, 0.25, -0.25]]]).double(), rtol=1e-12, atol=0)
