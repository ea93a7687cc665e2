"""The gradient flow against autograd and closed forms, in float64."""

import math

import numpy as np
import pytest
import torch
from oracles import agree, by_autograd, data, orthogonal, spoilt, squared
from torch import Tensor, nn

from statland.gradients import (
    Flow,
    Recurrence,
    decay_per_day,
    first_to_last,
    gradient_flow,
    profile,
)
from statland.gradients.share import middle, reach_days
from statland.models.base import RecurrentModel, SequenceModel
from statland.models.init import default
from statland.models.rnn_cell import RNNCell

LENGTHS = torch.tensor([9, 4, 1, 7])


def test_flow_times_error_is_the_gradient_by_autograd(recurrent: RecurrentModel) -> None:
    """Every lag, every company of a ragged batch, through h, through c and to x."""
    x, lengths, y = data(LENGTHS)
    flow = gradient_flow(recurrent, spoilt(x, lengths), lengths, squared(y))
    assert not flow.lost.any()
    names = list(recurrent.initial_state(1))

    def named(parts: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return dict(zip(names, parts, strict=True))

    def step(x_t: Tensor, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(recurrent.cell(x_t, named(parts)).values())

    start = tuple(recurrent.initial_state(1).values())
    for company, age in enumerate(lengths.tolist()):
        own, here = slice(company, company + 1), x[company : company + 1, :age]
        expected = by_autograd(step, start, lambda s: recurrent.readout(named(s)), here, y[own])
        log10 = {name: values[own, :age] for name, values in flow.log10.items()}
        agree(Flow(log10, flow.log10_error[own], flow.lost), expected, dict(enumerated(names)))
        assert all(values[company, age:].isnan().all() for values in flow.log10.values())


def enumerated(names: list[str]) -> list[tuple[str, str]]:
    return [(str(place), name) for place, name in enumerate(names)]


def test_flow_to_the_inputs_equals_autograd_through_forward(model: SequenceModel) -> None:
    """An oracle that never steps `cell`, whatever kernel it takes; from 1 day to 120."""
    lengths = torch.tensor([120, 1, 2, 57, 33, 32])  # 32 days are swept at once
    x = torch.rand(len(lengths), 120, 1, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x, lengths).sum(), x)
    flow = gradient_flow(model, spoilt(x.detach(), lengths), lengths).log10["x"]
    for company, age in enumerate(lengths.tolist()):
        expected = gradient[company, :age, 0].abs().flip(0).log10()
        found = flow[company, :age]
        known = expected > -250  # autograd has no digits left near the end of float64's range
        torch.testing.assert_close(found[known], expected[known], rtol=0, atol=1e-8)
        assert (found[~known] < -240).all()
        assert known[0]


def test_what_has_no_one_state_is_refused() -> None:
    x = torch.randn(2, 3, 1)
    for module in (nn.LSTM(1, 4, bidirectional=True), nn.LSTM(1, 4, proj_size=2)):
        with pytest.raises(ValueError, match="no single state"):
            gradient_flow(module, x, loss=lambda h: h.sum(1))
    with pytest.raises(ValueError, match="4 outputs need a loss"):
        gradient_flow(nn.RNN(1, 4), x)


def scalar(weight: float, nonlinearity: str = "identity") -> RNNCell:
    """One unit that is always active on inputs above 0."""
    model = RNNCell(1, 1, 1, 1, nonlinearity, default).double()
    with torch.no_grad():
        for name, value in (("weight_ih", 1.8), ("weight_hh", weight), ("bias_ih", 0.1)):
            getattr(model.layer(0), name).fill_(value)
        model.layer(0).bias_hh.zero_()
        model.output.weight.fill_(1.1)
    return model


@pytest.mark.parametrize(
    ("weight", "days", "nonlinearity"),
    [(w, 1000, "identity") for w in (0.9, 0.99, 1.1)]
    + [(2, 1200, "relu"), (0.5, 1200, "relu"), (1e30, 100, "relu"), (1e-30, 100, "relu")]
    + [(w, 40, "identity") for w in (1e-155, 1e-199)],  # whose square is no float
)
def test_statquest_s_arithmetic(weight: float, days: int, nonlinearity: str) -> None:
    """log10 of |1.1 w^k| at every lag, where w^k and the forward pass itself are beyond any float.

    The published figures among them: 0.99^1000 = 4.317e-5, 1.1^1000 = 2.47e41.
    """
    model = scalar(weight, nonlinearity)
    flow = gradient_flow(model, torch.rand(3, days, 1), torch.tensor([days, days // 2, 3]))
    theory = math.log10(1.1) + math.log10(weight) * torch.arange(days, dtype=torch.float64)
    for company, age in enumerate((days, days // 2, 3)):
        found = flow.log10["state"][company, :age]
        torch.testing.assert_close(found, theory[:age], rtol=1e-12, atol=1e-9)
    state = profile(flow.log10["state"])
    assert decay_per_day(state.median) == pytest.approx(math.log10(weight), abs=1e-6)
    published = {0.99: 4.317e-5, 1.1: 2.47e41}
    if weight in published:
        longer = gradient_flow(model, torch.rand(1, 1001, 1)).log10["state"][0]
        ratio = 10 ** (longer[1000] - longer[0]).item()
        assert ratio == pytest.approx(published[weight], rel=2e-3)


def test_underflow_from_a_norm_that_is_not_small_is_none() -> None:
    """Factors of 1e-140 and 1e-190 in turn: their product is no float, neither is near its end."""
    model = Recurrence(lambda x, s: s * x, initial=torch.ones(1))
    exponents = torch.tensor([-140.0, -190.0]).repeat(20)
    log10 = gradient_flow(model, (10 ** exponents.double())[None, :, None]).log10["state"][0]
    expected = torch.cat([torch.zeros(1), exponents.flip(0)[:-1].cumsum(0)]).double()
    torch.testing.assert_close(log10, expected, rtol=1e-12, atol=0)


def test_a_dead_relu_is_an_exact_zero_and_counted_apart() -> None:
    model = scalar(0.5, "relu")
    x = torch.rand(4, 10, 1)
    x[0, 4] = -100  # dead on day 5: nothing from before comes through
    flow = gradient_flow(model, x, torch.tensor([10, 10, 10, 6]))
    dead = flow.log10["state"][0]
    assert dead[:5].isfinite().all()  # lags 0 to 4 are days 10 to 6
    assert dead[5].isfinite()  # day 5's own state still counts
    assert (dead[6:] == -math.inf).all()
    assert flow.log10["state"][1:3].isfinite().all()
    found = profile(flow.log10["state"])
    assert found.exact_zeros.tolist() == [0] * 6 + [1] * 4
    assert found.companies.tolist() == [4] * 6 + [3] * 4
    assert found.median[6:].isfinite().all()


def test_a_loss_of_zero_or_overflow_leaves_the_flow_as_it_is() -> None:
    model = RNNCell(1, 1, 5, 1, "tanh", default).double()
    x, lengths, y = data(LENGTHS)
    reference = gradient_flow(model, x, lengths, squared(y))
    for loss, log10_error in (
        (lambda p: (p - p.detach()).square().squeeze(1), -math.inf),
        (lambda p: (p * 1e200).square().squeeze(1) * 1e200, math.inf),
        (lambda p: (p * math.nan).squeeze(1), math.nan),
    ):
        flow = gradient_flow(model, x, lengths, loss)
        errors = flow.log10_error
        assert errors.isnan().all() if math.isnan(log10_error) else (errors == log10_error).all()
        for name in reference.log10:
            assert torch.equal(flow.log10[name].nan_to_num(9), reference.log10[name].nan_to_num(9))


def test_a_company_whose_state_or_prediction_is_nan_is_left_out_and_counted() -> None:
    """Where the prediction alone is nan, the state and the slope of the logarithm are finite."""
    model = Recurrence(lambda x_t, h: 0.5 * h + x_t, torch.log, torch.zeros(1))
    x = torch.rand(4, 40, 1)
    x[1] *= -1
    x[3, 3] = math.nan
    flow = gradient_flow(model, x)
    assert flow.lost.tolist() == [False, True, False, True]
    for log10 in flow.log10.values():
        assert log10[[1, 3]].isnan().all()
        assert log10[[0, 2]].isfinite().all()
    assert profile(flow.log10["state"]).companies.tolist() == [2] * 40


@pytest.mark.parametrize("gain", [0.1, 0.9, 1.0, 2.0])
def test_reach_and_decay_of_an_orthogonal_recurrence(gain: float) -> None:
    """Decay log10 g; the days that hold 99% of 1 + g + ... + g^599."""
    log10 = gradient_flow(orthogonal(gain), torch.rand(5, 600, 1)).log10["state"]
    median = profile(log10).median
    assert decay_per_day(median) == pytest.approx(math.log10(gain), abs=1e-9)
    assert first_to_last(log10) == pytest.approx(599 * math.log10(gain), abs=1e-6)
    flow = gain ** np.arange(600.0)
    assert reach_days(log10) == (flow.cumsum() < (0.99 - 1e-9) * flow.sum()).sum()


def test_profile_takes_order_statistics() -> None:
    """Against numpy's inverted_cdf, company by company, -inf as the smallest."""
    rng = np.random.default_rng(0)
    log10 = rng.normal(size=(23, 12))
    log10[rng.random(log10.shape) < 0.2] = -math.inf
    for company in range(23):
        log10[company, rng.integers(1, 13) :] = math.nan
    found = profile(torch.from_numpy(log10))
    for lag in range(12):
        here = log10[~np.isnan(log10[:, lag]), lag]
        assert found.companies[lag] == len(here)
        assert found.exact_zeros[lag] == (here == -math.inf).sum()
        for q, values in ((0.1, found.p10), (0.5, found.median), (0.9, found.p90)):
            expected = np.quantile(here, q, method="inverted_cdf") if len(here) else math.nan
            assert values[lag].item() == pytest.approx(expected, nan_ok=True)


def test_the_middle_of_values() -> None:
    def of(*values: float) -> float:
        return middle(torch.tensor(values, dtype=torch.float64))

    assert of(3, 1, 2) == 2
    assert of(4, 1, 2, 3) == 2.5
    assert of(-math.inf, -math.inf, -math.inf, 1) == -math.inf
    assert of(-math.inf, -math.inf, 1, 2) == -math.inf
    assert of(-math.inf, 1, 2) == 1
    assert of(1, math.inf, math.inf) == math.inf
    assert math.isnan(of())
    assert math.isnan(of(1, math.nan, 2))


def test_decay_is_the_least_squares_slope() -> None:
    rng = np.random.default_rng(0)
    median = rng.normal(size=50)
    expected = np.polyfit(np.arange(50), median, 1)[0]
    assert decay_per_day(torch.from_numpy(median)) == pytest.approx(expected)
    holes = median.copy()
    holes[[3, 40]] = [-math.inf, math.nan]
    keep = np.isfinite(holes)
    expected = np.polyfit(np.arange(50)[keep], median[keep], 1)[0]
    assert decay_per_day(torch.from_numpy(holes)) == pytest.approx(expected)
    assert math.isnan(decay_per_day(torch.full((40,), -math.inf)))


def test_first_to_last_takes_each_company_s_own_first_day() -> None:
    x, lengths, _ = data(LENGTHS)
    log10 = gradient_flow(orthogonal(0.5), x, lengths).log10["state"]
    expected = sorted((int(age) - 1) * math.log10(0.5) for age in lengths)[1]  # the lower median
    assert first_to_last(log10) == pytest.approx(expected)
    assert math.isnan(first_to_last(torch.full((3, 40), -math.inf)))


def test_float32_models_are_measured_in_float64() -> None:
    model = RNNCell(1, 1, 6, 1, "tanh", default)
    x, lengths, y = (t.float() if t.is_floating_point() else t for t in data(LENGTHS))
    single = gradient_flow(model, x, lengths, squared(y)).log10["state"]
    double = gradient_flow(model.double(), x.double(), lengths, squared(y.double()))
    assert torch.equal(single.nan_to_num(9), double.log10["state"].nan_to_num(9))
