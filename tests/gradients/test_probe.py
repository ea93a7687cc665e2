"""The probe batch and what is said of it."""

import math

import pytest
import torch
from conftest import built

from statland.batch import Batch
from statland.gradients.probe import largest_lyapunov_exponents, measure, probe_batch, verdict
from statland.gradients.spectrum import lyapunov_spectrum


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
    assert measured.scalars["grad_flow/log10_error"] == pytest.approx(expected, abs=1e-4)
    assert measured.scalars["grad_flow/lost_companies"] == 0


def test_exponents_are_of_days_that_all_have_traded() -> None:
    market, model, _ = built("data=recall", "data.min_days=5", "data.max_days=60")
    batch = probe_batch(market.validation())
    days = int(batch.lengths[:4].min())
    expected = lyapunov_spectrum(model, batch.x[:4, :days], 16)
    assert torch.equal(largest_lyapunov_exponents(model, batch), expected)


def said(reach: int | None, bounded: bool, decay: float, **other: object) -> str:
    gradient = {"reach_days": reach, "reach_is_bounded": bounded, "decay_per_day": decay}
    return verdict({"theory_decay_per_day": None, "lost_companies": 0} | gradient | other, 49)


def test_the_verdict() -> None:
    assert said(11, True, -0.2) == (
        "the gradient reaches 11 days; the answer lies 49 days back (-0.2 decades a day)"
    )
    assert said(1, True, -2.0).startswith("the gradient reaches 1 day; ")
    assert said(0, True, math.nan) == "the gradient reaches 0 days; the answer lies 49 days back"
    assert said(0, False, math.nan).startswith("the histories are one day long")
    assert "reaches all 49 days measured" in said(49, False, 0.1)
    assert "by theory -0.3)" in said(6, True, -0.3, theory_decay_per_day=-0.3)
    assert said(None, True, math.nan) == "the gradient is 0 on every day"
    assert "16 companies is nan" in said(None, True, math.nan, lost_companies=16)
    gradient = {"reach_days": 3, "reach_is_bounded": True, "decay_per_day": -1.0}
    gradient |= {"theory_decay_per_day": None, "lost_companies": 0}
    assert "where the answer lies is not known" in verdict(gradient, None)
