"""Spectra and Lyapunov exponents against closed forms and determinants."""

import math
from functools import partial

import pytest
import torch
from conftest import built
from oracles import orthogonal
from torch import Tensor

from statland.gradients import gradient_flow
from statland.gradients.activity import activity
from statland.gradients.spectrum import (
    largest_singular_value,
    linear_decay,
    lyapunov_spectrum,
    spectral_radius,
)
from statland.models.base import RecurrentModel, State, unroll
from statland.models.init import default
from statland.models.lstm import LSTM
from statland.models.rnn_cell import RNNCell


def test_radius_and_singular_value() -> None:
    rotation = torch.tensor([[0.0, -2.0], [2.0, 0.0]])
    assert spectral_radius(rotation) == pytest.approx(2)
    assert largest_singular_value(rotation) == pytest.approx(2)
    shear = torch.tensor([[0.5, 3.0], [0.0, 0.25]])
    assert spectral_radius(shear) == pytest.approx(0.5)
    both = shear.T @ shear
    trace, det = both.trace().item(), both.det().item()
    expected = math.sqrt((trace + math.sqrt(trace**2 - 4 * det)) / 2)
    assert largest_singular_value(shear) == pytest.approx(expected, rel=1e-6)
    assert math.isnan(spectral_radius(torch.tensor([[math.inf]])))
    assert math.isnan(largest_singular_value(torch.tensor([[math.nan]])))


def test_every_recurrent_matrix_by_name() -> None:
    rnn, lstm = RNNCell(1, 1, 4, 2, "tanh", default), LSTM(1, 1, 4, 1, default)
    assert list(rnn.recurrent_matrices()) == ["weight_hh_l0", "weight_hh_l1"]
    assert torch.equal(rnn.recurrent_matrices()["weight_hh_l1"], rnn.layer(1).weight_hh)
    gates = lstm.recurrent_matrices()
    assert list(gates) == [f"weight_hh_l0_{gate}" for gate in ("input", "forget", "cell", "output")]
    assert torch.equal(torch.cat(list(gates.values())), lstm.layer(0).weight_hh)


@pytest.mark.parametrize("gain", [0.3, 1.7])
def test_lyapunov_exponents_of_an_orthogonal_recurrence_are_all_ln_g(gain: float) -> None:
    spectrum = lyapunov_spectrum(orthogonal(gain), torch.rand(3, 60, 1))
    assert spectrum.shape == (8,)
    assert (spectrum - math.log(gain)).abs().max() < 1e-8


@pytest.mark.parametrize(("name", "layers"), [("rnn_cell", 1), ("mingru", 3), ("lstm_chrono", 2)])
def test_lyapunov_exponents_sum_to_the_log_determinant(name: str, layers: int) -> None:
    """Whatever the model: the mean of ln|det ds_t/ds_{t-1}| over days and companies."""
    overrides = (f"model={name}", "model.hidden_size=4", f"model.num_layers={layers}")
    model = built(*overrides)[1].double()
    x = torch.rand(2, 12, 1, dtype=torch.float64)
    spectrum = lyapunov_spectrum(model, x)
    with torch.no_grad():
        states = unroll(model, x)
    start, logs = model.initial_state(1), []
    for company in range(2):
        for day in range(12):
            before = [
                start[name][0] if day == 0 else days[day - 1, company]
                for name, days in states.items()
            ]

            flat = torch.cat([part.flatten() for part in before])
            step = partial(
                stepped, model, x[company, day, None], dict(zip(states, before, strict=True))
            )
            logs.append(torch.autograd.functional.jacobian(step, flat).det().abs().log())
    assert spectrum.shape == flat.shape
    assert spectrum.sum().item() == pytest.approx(torch.stack(logs).mean().item(), rel=1e-9)


def stepped(model: RecurrentModel, x_t: Tensor, like: State, flat: Tensor) -> Tensor:
    """One company's day from a state, and to one, in which all parts are side by side (S,)."""
    parts = flat.split([part.numel() for part in like.values()])
    pairs = zip(like.items(), parts, strict=True)
    state = {name: part.view(1, *shape.shape) for (name, shape), part in pairs}
    return torch.cat([part.flatten() for part in model.cell(x_t, state).values()])


def test_the_largest_exponents_alone_are_the_same() -> None:
    model = RNNCell(1, 1, 6, 1, "tanh", default)
    x = torch.rand(2, 300, 1)
    every, some = lyapunov_spectrum(model, x), lyapunov_spectrum(model, x, 2)
    assert (every.diff() <= 0).all()
    torch.testing.assert_close(some, every[:2], rtol=0, atol=0.02)


def test_exponents_of_what_overflows_or_dies() -> None:
    dead = orthogonal(1.0, "relu")
    with torch.no_grad():
        dead.layer(0).bias_ih.fill_(-100)
    assert (lyapunov_spectrum(dead, torch.rand(1, 5, 1)) == -math.inf).all()
    # The forward pass overflows on day 2; what it does to small changes does not.
    huge = lyapunov_spectrum(orthogonal(1e300), torch.rand(1, 5, 1))
    assert huge == pytest.approx([math.log(1e300)] * 8)
    lost = torch.tensor([[[1.0], [math.nan], [1.0]]])
    assert lyapunov_spectrum(orthogonal(1.0, "tanh"), lost).isnan().all()


def test_directions_that_are_forgotten_at_once() -> None:
    """A matrix of rank one, and a ReLU unit of four that is dead for ever."""
    model, dead = orthogonal(1.0), RNNCell(1, 1, 4, 1, "relu", default)
    u = torch.nn.functional.normalize(torch.randn(8, dtype=torch.float64), dim=0)
    with torch.no_grad():
        model.layer(0).weight_hh.copy_(0.9 * torch.outer(u, u))
        dead.layer(0).weight_hh.copy_(0.7 * torch.eye(4))
        dead.layer(0).weight_ih.fill_(1)
        dead.layer(0).bias_ih.copy_(torch.tensor([1.0, 1.0, -100.0, 1.0]))
    found = lyapunov_spectrum(model, torch.rand(3, 1000, 1))
    # The first day's random direction is a transient, of one day in a thousand.
    assert found[0].item() == pytest.approx(math.log(0.9), abs=0.01)
    assert (found[1:] == -math.inf).all()
    found = lyapunov_spectrum(dead, torch.rand(3, 1000, 1))
    assert found[:3].tolist() == pytest.approx([math.log(0.7)] * 3, abs=0.01)
    assert found[3] == -math.inf
    # A direction that shrinks much faster than another is not forgotten.
    stiff = orthogonal(1.0)
    with torch.no_grad():
        stiff.layer(0).weight_hh.copy_(torch.diag(10.0 ** -torch.arange(8).double()))
    found = lyapunov_spectrum(stiff, torch.rand(1, 50, 1))
    assert found.sum().item() == pytest.approx(-28 * math.log(10), rel=1e-6)


def test_linear_decay() -> None:
    assert linear_decay(orthogonal(0.5)) == pytest.approx(math.log10(0.5))
    assert linear_decay(orthogonal(2.0, "relu")) == pytest.approx(math.log10(2))
    assert linear_decay(orthogonal(0.5, "tanh")) is None
    assert linear_decay(RNNCell(1, 1, 4, 1, "identity", default)) is None  # stretches unevenly
    assert linear_decay(RNNCell(1, 1, 4, 2, "identity", default)) is None
    assert linear_decay(LSTM(1, 1, 4, 1, default)) is None


def watched(model: RecurrentModel) -> tuple[dict[str, float], Tensor, Tensor]:
    """The activity of three companies, their states after each day, and their ages."""
    x, lengths = torch.rand(3, 7, 1), torch.tensor([7, 2, 5])
    states = gradient_flow(model, x).states
    return activity(model, x, lengths, states), states["h"][1:], lengths


def test_activity_of_tanh_and_relu_units() -> None:
    for nonlinearity in ("tanh", "relu"):
        model = RNNCell(1, 1, 5, 2, nonlinearity, default)
        with torch.no_grad():
            for index in range(2):
                model.layer(index).weight_hh.mul_(4)
            model.layer(1).bias_ih[2] = -1000.0  # a dead unit, or one saturated for ever
        found, states, lengths = watched(model)
        values = torch.cat([states[:age, b] for b, age in enumerate(lengths.tolist())]).flatten(1)
        extreme, other = (values.abs() > 0.95).double(), 1 - values**2
        if nonlinearity == "relu":
            extreme, other = (values == 0).all(0).double(), (values > 0).double()
        names = {"tanh": ("tanh_saturated", "tanh_slope"), "relu": ("relu_dead", "relu_active")}
        expected = (part.mean().item() for part in (extreme, other))
        assert extreme.mean() >= 0.1
        named = (f"units/{name}" for name in names[nonlinearity])
        assert found == pytest.approx(dict(zip(named, expected, strict=True)))


def test_gates_of_an_lstm_whose_biases_alone_act() -> None:
    model, shares = LSTM(1, 1, 12, 1, default), torch.arange(1, 13) ** 2 / 150
    with torch.no_grad():
        for parameter in model.recurrence.parameters():
            parameter.zero_()
        model.layer(0).bias_ih[12:24] = shares.logit()[torch.randperm(12)]
    found, *_ = watched(model)
    assert found["units/gate_forget_mean"] == pytest.approx(shares.mean().item())
    # Of 12 equally frequent values the 11th is the smallest that 90% do not exceed.
    assert found["units/gate_forget_p90"] == pytest.approx(shares[10].item())
    assert found["units/gate_input_mean"] == found["units/gate_output_p90"] == 0.5
    assert found["units/tanh_slope"] == 1
