"""The word on a gradient, on recurrences of known gain, and the sentence behind it."""

import math

import pytest
import torch
from conftest import built

from statland.gradients.probe import measure, measure_in_full, probe_batch
from statland.gradients.words import verdict


@pytest.mark.parametrize("weight", [0.5, 0.89, 0.9, 1.0, -1.0, 1.11, 1.12, 2.0])
def test_the_word_on_a_recurrence_of_known_gain(weight: float) -> None:
    """Of w^49 + ... + 1 the first day has w^49 and the last 1: a hundredth of an even share."""
    scalar = ("model/init=constant", "model.hidden_size=1", "model.nonlinearity=identity")
    ages = ("data=recall", "data.min_days=50", "data.max_days=50", "dtype=float64")
    market, model, _ = built(*scalar, *ages, f"model.init.recurrent_weight={weight}")
    batches = [batch.to(torch.device("cpu"), torch.float64) for batch in market.validation()]
    batch = probe_batch(batches)
    measured = measure(model, batch, market.answer(batch))
    gradient = measure_in_full(model, batch, market.answer(batch), measured).gradient
    flow = [abs(weight) ** lag for lag in range(50)]
    first, last = (50 * flow[lag] / sum(flow) for lag in (49, 0))
    expected = "vanishes" if first < 0.01 else "explodes" if last < 0.01 else "holds"
    assert gradient["verdict"] == expected
    assert verdict(gradient, 49).startswith(f"{expected}: ")
    share = flow[49] / math.sqrt(sum(f**2 for f in flow)) * math.sqrt(50)
    assert gradient["answer_share"] == pytest.approx(math.log10(share), abs=1e-6)
    daily = math.log10(abs(weight))
    assert gradient["first_to_last"] == pytest.approx(49 * daily, abs=1e-6)
    assert gradient["decay_per_day"] == pytest.approx(daily, abs=1e-6)
    assert gradient["theory_decay_per_day"] == pytest.approx(daily, abs=1e-6)
    assert gradient["lyapunov"] == [pytest.approx(math.log(abs(weight)), abs=1e-6)]


def said(span: int | None = 99, trained: bool = False, **other: object) -> str:
    gradient = {"verdict": "vanishes", "answer_share": -21.4, "answer_zero": False}
    gradient |= {"answer_importance": 0.98, "reach_days": 8, "decay_per_day": -0.2}
    gradient |= {"longest_lag": 99, "theory_decay_per_day": None, "lost_companies": 0}
    return verdict(gradient | other, span, trained)


def test_the_line() -> None:
    reach = "vanishes: 99% of it comes from the last 9 days"
    answer = f"{reach}; the answer, 99 days back, gets 10^-21 of an even share"
    assert said() == answer
    assert said(trained=True) == (
        f"{answer}; the model uses the answer: 0.98 of what it predicts depends on it"
    )
    unused = said(trained=True, answer_importance=0.01)
    assert unused == f"{answer}; the model does not use the answer: 0.01"
    assert said(trained=True, answer_importance=None) == answer
    assert said(None, trained=True, answer_importance=None) == reach
    assert "gets nothing of it" in said(answer_share=None, answer_zero=True)
    assert "gets an unknown share of it" in said(answer_share=None)
    assert "the answer, 1 day back, gets 0.5 of an even share" in said(1, answer_share=-0.301)
    assert said(answer_share=0.5).endswith("gets 3.2 times an even share")
    assert "comes from the last day;" in said(reach_days=0)
    assert said(None, theory_decay_per_day=-0.3) == f"{reach} (-0.2 decades a day, by theory -0.3)"
    assert said(None, theory_decay_per_day=-0.3, decay_per_day=math.nan) == reach


def test_what_is_not_known_says_why() -> None:
    assert said(longest_lag=0) == "is not known: the histories are one day long"
    lost = said(verdict=None, reach_days=None, lost_companies=16)
    assert lost == "is not known: the prediction is nan for all 16 companies"
    assert said(reach_days=None) == "vanishes: it is exactly 0 on every day"
