"""What each day adds to the weights: sums, outer products, closed forms, in float64."""

import copy
import math
from typing import Any

import pytest
import torch
from oracles import Scaling, data, scaling, spoilt, squared
from torch import Tensor, nn

from statland.batch import Batch
from statland.gradients import Flow, Recurrence, WeightFlow, gradient_flow, weight_flow
from statland.gradients.frozen import frozen
from statland.gradients.probe import WEIGHTS, measure, measure_in_full
from statland.gradients.weights import contributions, weights_of_cell
from statland.models.base import RecurrentModel, SequenceModel
from statland.models.init import default
from statland.models.rnn_cell import RNNCell

LENGTHS = torch.tensor([9, 40, 1, 7])  # 32 days are swept at once


def by_day(
    model: RecurrentModel, x: Tensor, lengths: Tensor, flow: Flow, sign: Tensor
) -> dict[str, Tensor]:
    """What each day adds to dl/dW, by weight: by company and lag (B, T, *shape)."""
    model = frozen(model)
    before = {name: states[:-1].transpose(0, 1) for name, states in flow.states.items()}
    v = {name: values.transpose(0, 1) for name, values in flow.directions.items()}
    weights = weights_of_cell(model, x[:, 0], {name: s[:, 0] for name, s in before.items()})
    found = {}
    for name, terms in contributions(model, weights, x, before, v).items():
        by_lag = torch.zeros_like(terms)
        for company, age in enumerate(lengths.tolist()):
            by_lag[company, :age] = terms[company, :age].flip(0)
        log10 = flow.log10["state"] + flow.log10_error[:, None]
        size = (10**log10 * sign[:, None]).nan_to_num(0)
        found[name] = by_lag * size.view(*size.shape, *[1] * (terms.ndim - 2))
    return found


def weights_of(model: RecurrentModel) -> dict[str, Tensor]:
    """The weights by the names that they are measured under, with exprnn's W."""
    weights: dict[str, Tensor] = dict(model.named_parameters())
    for module_name, module in model.named_modules():
        for name in getattr(module, "parametrizations", {}):
            weights[f"{module_name}.{name}"] = getattr(module, name)
    return weights


def original_of(name: str) -> str:
    """The parameter that a matrix is computed from."""
    module, _, matrix = name.rpartition(".")
    return f"{module}.parametrizations.{matrix}.original"


def test_the_days_sum_to_the_gradient_by_autograd(recurrent: RecurrentModel) -> None:
    """Of each company's own loss, through the unrolled cell, of a ragged batch; and their norms."""
    model = recurrent
    x, lengths, y = data(LENGTHS)
    measured = weight_flow(model, x, lengths, squared(y))
    prediction = model(x, lengths)
    losses, sign = squared(y)(prediction), (prediction - y).sign()[:, 0].detach()  # u is 1
    added = by_day(model, x, lengths, gradient_flow(model, x, lengths, squared(y)), sign)
    parameters = dict(model.named_parameters())
    used = [name for name in parameters if name not in of_readout(model, x)]
    assert {n for n in added if n in parameters} == {n for n in used if ".original" not in n}
    assert set(measured.log10) == set(added)
    for company, age in enumerate(lengths.tolist()):
        gradients = torch.autograd.grad(
            losses[company], [parameters[name] for name in used], retain_graph=True
        )
        expected = dict(zip(used, gradients, strict=True))
        for name, days in added.items():
            total = days[company].sum(0)
            if name in parameters:
                close(total, expected[name])
            else:  # a matrix computed from a parameter: on through that, which is linear
                W, original = weights_of(model)[name], original_of(name)
                close(torch.autograd.grad(W, parameters[original], total)[0], expected[original])
            norms = days[company, :age].flatten(1).norm(dim=1)
            found = 10 ** (measured.log10[name][company, :age] + measured.log10_error[company])
            torch.testing.assert_close(found, norms, rtol=1e-10, atol=0)
            assert measured.log10[name][company, age:].isnan().all()
            found = 10 ** (measured.summed[name][company] + measured.log10_error[company])
            torch.testing.assert_close(found, total.norm(), rtol=1e-10, atol=0)
        by_weight = torch.stack([log10[company, :age] for log10 in measured.log10.values()])
        found = 10 ** measured.together[company, :age]
        torch.testing.assert_close(found, (10**by_weight).norm(dim=0), rtol=1e-10, atol=0)


def close(found: Tensor, expected: Tensor) -> None:
    scale = expected.abs().max().clamp(min=1e-12)
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=1e-10)


def of_readout(model: RecurrentModel, x: Tensor) -> set[str]:
    """The parameters that `readout` alone uses: those in which no state has a gradient."""
    state = model.cell(x[:, 0], model.initial_state(len(x)))
    total = sum(part.sum() for part in state.values())
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    return {name for name, g in zip(parameters, gradients, strict=True) if g is None}


def test_one_layer_and_one_company_by_hand() -> None:
    """||delta_t|| ||h_{t-1}||, delta_t swept back with h_t = tanh(a_t): 1 - h * h is its slope."""
    model = RNNCell(2, 1, 5, 1, "tanh", default).double()
    x = torch.randn(1, 12, 2, dtype=torch.float64)
    measured = weight_flow(model, x)
    w = model.layer(0)
    with torch.no_grad():
        h = [torch.zeros(5, dtype=torch.float64)]
        for x_t in x[0]:
            h.append(torch.tanh(w.weight_ih @ x_t + w.bias_ih + w.weight_hh @ h[-1] + w.bias_hh))
        v = model.output.weight[0]
        for lag in range(12):
            day = 12 - lag  # h[day] is the state after it
            delta = (1 - h[day] ** 2) * v
            for name, factor in {
                "weight_hh": delta.norm() * h[day - 1].norm(),
                "weight_ih": delta.norm() * x[0, day - 1].norm(),
                "bias_hh": delta.norm(),
            }.items():
                found = 10 ** measured.log10[f"recurrence.{name}_l0"][0, lag]
                torch.testing.assert_close(found, factor, rtol=1e-12, atol=0)
            v = w.weight_hh.T @ delta
    assert measured.log10["recurrence.weight_hh_l0"][0, 11] == -math.inf  # h_0 is 0
    assert measured.log10["recurrence.bias_hh_l0"][0, 11].isfinite()


@pytest.mark.parametrize("w", [2.0, -0.9, 0.01])
def test_a_scalar_linear_recurrence_in_closed_form(w: float) -> None:
    """From h_0 = 1 without input h_{t-1} = w^(t-1), the day at lag k adds w^k w^(T-k-1): w^(T-1).

    Every day teaches alike, whatever w is. 1200 days of 2 are 10^361, of 0.01 10^-2398 and, as
    float64 has no state so small, exact zeros.
    """
    days = 1200
    measured = weight_flow(scaling(w, 1.0), torch.zeros(1, days, 1))
    log10 = math.log10(abs(w))
    lags = torch.arange(days).double()
    states = (days - 1 - lags) * log10  # log10 of the state before the day
    known = states.abs() < 300
    expected = torch.full((days,), (days - 1) * log10, dtype=torch.float64)
    torch.testing.assert_close(measured.together[0][known], expected[known], rtol=1e-12, atol=1e-9)
    assert known.sum() > 100
    assert (measured.together[0][states < -330] == -math.inf).all()


@pytest.mark.parametrize(("w", "days"), [(2.0, 1000), (-0.9, 1000), (0.5, 1), (1.5, 2)])
def test_the_days_of_a_scalar_sum_to_its_power_differentiated(w: float, days: int) -> None:
    """From h_0 = 1 without input h_T = w^T, and T w^(T-1) is its slope: 10^304 at 2."""
    measured = weight_flow(scaling(w, 1.0), torch.zeros(2, days, 1), torch.tensor([days, 1]))
    expected = [math.log10(days) + (days - 1) * math.log10(abs(w)), 0.0]
    assert measured.summed["step.w"].tolist() == pytest.approx(expected, rel=1e-12, abs=1e-9)


def test_days_of_the_largest_flow_that_add_nothing_hide_no_others() -> None:
    """h = 0 up to an input of 1 on day 1101 of 1200: then 99 days add 2^98, of flows below 2^99.

    The flow to the first day is 2^1199, which is 10^331 times as large.
    """
    x = torch.zeros(2, 1200, 1)
    x[0, 1100] = 1
    measured = weight_flow(scaling(2.0), x)
    expected = math.log10(99) + 98 * math.log10(2)
    assert measured.summed["step.w"].tolist() == [pytest.approx(expected, rel=1e-12), -math.inf]


class TwoWeights(nn.Module):
    """h + u a + v b, of a day's two inputs a and b."""

    def __init__(self) -> None:
        super().__init__()
        self.u, self.v = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, x_t: Tensor, h: Tensor) -> Tensor:
        return h + self.u * x_t[:, :1] + self.v * x_t[:, 1:]


def test_weights_of_far_apart_sizes_hide_no_other() -> None:
    """dp/du is the sum of all a, dp/dv that of all b: 10^200 and 10^-200 a day."""
    ages = torch.tensor([700, 1, 300])
    x = torch.tensor([1e200, 1e-200], dtype=torch.float64).expand(3, 700, 2)
    measured = weight_flow(Recurrence(TwoWeights(), initial=torch.zeros(1)), x, ages)
    days = ages.double().log10()
    torch.testing.assert_close(measured.summed["step.u"], days + 200)
    torch.testing.assert_close(measured.summed["step.v"], days - 200)


def test_a_company_whose_state_overflows_hides_no_other() -> None:
    """With inputs of 1 h is the sum of w^k for k below T: its slope is that of k w^(k - 1)."""
    x, ages = torch.ones(3, 1100, 1), torch.tensor([1100, 1050, 1000])
    found = weight_flow(scaling(2.0), x, ages).summed["step.w"]
    assert found[:2].isnan().all()
    slope = sum(k * 2 ** (k - 1) for k in range(1, 1000))  # of the sum of w^k
    assert found[2].item() == pytest.approx(math.log10(slope), rel=1e-12)


class Restarted(Scaling):
    """A day with an input begins anew with that, whatever the state was: its slope is 0."""

    def forward(self, x_t: Tensor, h: Tensor) -> Tensor:
        return torch.where(x_t > 0, x_t, self.w * h)


@pytest.mark.parametrize("day", [0, 1])
def test_a_term_that_is_not_known_leaves_the_sum_unknown(day: int) -> None:
    """0 times a state that has overflowed: on the first row, which is swept by itself, or later."""
    x = torch.zeros(2, 9, 1)
    x[:, day] = 1
    measured = weight_flow(scaling(0.5, math.inf, Restarted), x)
    assert measured.together[:, 8 - day].isnan().all()
    assert measured.together[:, : 8 - day].isfinite().all()
    assert measured.summed["step.w"].isnan().all()


def test_companies_whose_state_is_nan_are_left_out() -> None:
    model = RNNCell(1, 1, 6, 1, "tanh", default).double()
    x, lengths, y = data(LENGTHS)
    alone = weight_flow(model, x, lengths, squared(y))
    x = spoilt(x, lengths)
    x[1, 3] = math.nan
    measured = weight_flow(model, x, lengths, squared(y))
    assert measured.lost.tolist() == [False, True, False, False]
    assert measured.together[1].isnan().all()
    for company in (0, 2, 3):
        for one, other in ((measured.together, alone.together), *pairs(measured, alone)):
            torch.testing.assert_close(one[company], other[company], equal_nan=True)
    x[:, 0] = math.nan
    assert weight_flow(model, x, lengths, squared(y)).together.isnan().all()


def pairs(one: WeightFlow, other: WeightFlow) -> list[tuple[Tensor, Tensor]]:
    return [(one.log10[name], other.log10[name]) for name in one.log10]


def test_several_outputs_along_the_loss() -> None:
    """u is the unit vector along dl/dp, the error its size: the days sum to dl/dW, sign and all."""
    x, lengths, _ = data(torch.tensor([6, 4, 1]))
    model = Recurrence(nn.GRUCell(1, 4), nn.Linear(4, 3), torch.ones(4)).double()
    loss = squared(torch.randn(3, 3, dtype=torch.float64))
    added = by_day(model, x, lengths, gradient_flow(model, x, lengths, loss), torch.ones(3))
    losses = loss(model(x, lengths))
    parameters = dict(model.named_parameters())
    assert set(added) == {name for name in parameters if name.startswith("step.")}
    for company in range(3):
        weights = [parameters[name] for name in added]
        expected = torch.autograd.grad(losses[company], weights, retain_graph=True)
        for days, gradient in zip(added.values(), expected, strict=True):
            close(days[company].sum(0), gradient)


KINDS: list[Any] = [nn.RNN, nn.LSTM, nn.GRUCell]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bare_module_under_its_own_names(kind: Any) -> None:
    """What one day adds, from a state of 0, is the gradient that the module itself has."""
    module = kind(2, 4).double()
    x = torch.randn(1, 3, 2, dtype=torch.float64)  # of an nn.RNN one day, three companies
    is_cell = isinstance(module, nn.RNNCellBase)
    x = x.transpose(0, 1) if is_cell else x
    weights = torch.randn(4, dtype=torch.float64)
    measured = weight_flow(module, x, loss=lambda h: h @ weights)
    assert set(measured.log10) == set(dict(module.named_parameters()))
    for company in range(3):
        again = copy.deepcopy(module)
        out = again(x[company]) if is_cell else again(x[:, company : company + 1])[0][0]
        last = out[0] if isinstance(out, tuple) else out
        (last @ weights).sum().backward()
        for name, p in again.named_parameters():
            found = 10 ** (measured.log10[name][company, 0] + measured.log10_error[company])
            torch.testing.assert_close(found, p.grad.norm(), rtol=1e-10, atol=0)


class Unmappable(Scaling):
    """The same, by a step that looks at a value: vmap cannot take it."""

    def forward(self, x_t: Tensor, h: Tensor) -> Tensor:
        return super().forward(x_t, h) if h.abs().sum().item() < 1e300 else h


def test_a_cell_that_vmap_cannot_take_has_no_contributions() -> None:
    """Its flow is measured all the same, so that a run of it goes on."""
    batch = Batch(*data(torch.tensor([20, 1, 7])))
    for kind, is_known in ((Scaling, True), (Unmappable, False)):
        model = scaling(0.9, kind=kind)
        measured = measure(model, batch)
        assert measured.flow.log10["state"][0].isfinite().all()
        found = measure_in_full(model, batch, None, measured)
        assert (WEIGHTS in found.profiles) == ("log10_dp_dw" in found.gradient) == is_known


def test_watching_changes_nothing(model: SequenceModel) -> None:
    """Neither the model, which is in training, nor its gradients, nor the random numbers."""
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    next(model.parameters()).requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    needed = [p.requires_grad for p in model.parameters()]
    grads = [p.grad.clone() for p in model.parameters()]
    (x, lengths, y), random = data(LENGTHS), torch.get_rng_state()
    watch = weight_flow if isinstance(model, RecurrentModel) else gradient_flow
    watch(model.train(), x, lengths, squared(y))
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert [p.requires_grad for p in model.parameters()] == needed
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads, strict=True))


def test_without_a_state_or_without_weights() -> None:
    x = torch.randn(3, 7, 2)
    with pytest.raises(ValueError, match="Linear has no state; allowed: a recurrent model"):
        weight_flow(nn.Linear(2, 1), x)
    with pytest.raises(ValueError, match="4 outputs need a loss"):
        weight_flow(nn.GRU(2, 4), x)
    nothing = Recurrence(lambda x_t, h: 0.5 * h + x_t, initial=torch.zeros(2))
    measured = weight_flow(nothing, x, loss=lambda p: p.sum(1))
    assert measured.log10 == {}
    assert measured.together.isnan().all()
