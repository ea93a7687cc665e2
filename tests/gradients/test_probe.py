"""The probe batch and what is said of it."""

import math

import pytest
import torch
from conftest import built
from torch import Tensor

from statland.batch import Batch
from statland.gradients.probe import (
    largest_lyapunov_exponents,
    measure,
    measure_in_full,
    probe_batch,
)
from statland.gradients.spectrum import lyapunov_spectrum
from statland.gradients.words import verdict
from statland.models.base import SequenceModel


def test_the_probe_batch_is_of_the_oldest_quarter() -> None:
    market, *_ = built("data=recall", "data.min_days=2", "data.max_days=101")
    batches = market.validation()
    ages = sorted((age for batch in batches for age in batch.lengths.tolist()), reverse=True)
    batch = probe_batch(batches)
    assert len(batch.x) == 16
    assert batch.lengths[0] == 101
    assert batch.lengths.tolist() == sorted(batch.lengths.tolist(), reverse=True)
    assert batch.lengths[-1] == ages[len(ages) // 4 - 1]
    histories = {
        (*b.x[i, : b.lengths[i], 0].tolist(), b.y[i].item())
        for b in batches
        for i in range(len(b.x))
    }
    for x, age, y in zip(*batch, strict=True):
        assert (*x[:age, 0].tolist(), y.item()) in histories
    few = Batch(*(t[:3] for t in batches[0]))
    assert len(probe_batch([few]).x) == 3


def test_the_error_is_that_of_each_company_s_own_loss() -> None:
    market, model, _ = built("data=recall")
    batch = probe_batch(market.validation())
    measured = measure(model, batch)
    with torch.no_grad():
        errors = 2 * (model(batch.x, batch.lengths) - batch.y).abs().double().squeeze(1)
    expected = errors.log10().quantile(0.5).item()
    assert measured.scalars["profile_summary/log10_error"] == pytest.approx(expected, abs=1e-4)
    assert measured.scalars["profile_summary/lost_companies"] == 0


def readout(weight: float, bias: float = 0) -> tuple[SequenceModel, Batch, Tensor]:
    """A model whose readout has this weight, with the probe batch of recall."""
    market, model, _ = built("data=recall", "data.max_days=9", "model.hidden_size=1")
    with torch.no_grad():
        model.output.weight.fill_(weight)
        model.output.bias.fill_(bias)
    batch = probe_batch(market.validation())
    answer = market.answer(batch)
    assert answer is not None
    return model, batch, answer


def test_a_flow_of_exactly_0_vanishes_and_a_prediction_of_nan_is_lost() -> None:
    nothing = measure(*readout(0.0))
    assert (nothing.gradient["verdict"], nothing.gradient["reach_days"]) == ("vanishes", None)
    assert (nothing.gradient["answer_share"], nothing.gradient["answer_zero"]) == (None, True)
    assert nothing.gradient["answer_importance"] == nothing.gradient["lost_companies"] == 0
    assert nothing.scalars["gradient/answer_share"] == -math.inf
    assert verdict(nothing.gradient, None) == "vanishes: it is exactly 0 on every day"
    for lost in (measure(*readout(math.nan)), measure(*readout(1, math.nan))):
        assert (lost.gradient["verdict"], lost.gradient["lost_companies"]) == (None, 16)
        assert (lost.gradient["answer_share"], lost.gradient["answer_zero"]) == (None, False)
        assert lost.scalars["gradient/answer_share"] is None
        assert verdict(lost.gradient, None).startswith("is not known: the prediction is nan for ")


def test_without_an_answer_nothing_is_said_of_it() -> None:
    model, batch, answer = readout(1.0)
    full = measure_in_full(model, batch, answer, measure(model, batch, answer))
    assert math.isfinite(full.gradient["answer_share_of_weights"])
    assert list(full.gradient["importance"]) == [0, 1, 2, 5]
    assert full.gradient["importance"][0] == 0  # the last day is the same for all
    assert full.scalars["profile_importance/1"] == full.gradient["importance"][1] > 0
    unknown = measure(model, batch)
    assert unknown.gradient["answer_share"] is unknown.gradient["answer_importance"] is None
    assert unknown.gradient["verdict"] == full.gradient["verdict"]
    assert "answer_share_of_weights" not in measure_in_full(model, batch, None, unknown).gradient


def test_an_error_of_exactly_0_is_known() -> None:
    """A model that always says 0.5, right for none, half and all of the companies."""
    model, batch, _ = readout(0, 0.5)
    for right, expected in ((0, math.log10(2 * 0.25)), (7, -math.inf), (8, -math.inf)):
        y = torch.full_like(batch.y, 0.25)
        y[: 2 * right] = 0.5
        measured = measure(model, batch._replace(y=y))
        assert measured.scalars["profile_summary/log10_error"] == expected


def test_exponents_are_of_days_that_all_have_traded() -> None:
    market, model, _ = built("data=recall", "data.min_days=5", "data.max_days=60")
    batch = probe_batch(market.validation())
    days = int(batch.lengths[:4].min())
    expected = lyapunov_spectrum(model, batch.x[:4, :days], 16)
    assert torch.equal(largest_lyapunov_exponents(model, batch), expected)
