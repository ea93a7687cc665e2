"""The word on a gradient, on recurrences of known gain, and the line of numbers behind it."""

import math

import pytest
import torch
from conftest import built

from statland.gradients.probe import measure, probe_batch
from statland.gradients.words import verdict, word

# |weight| ** 49 over a hundredth and a hundred: 0.9103 and 1.0985 are the borders at 50 days.
BORDER = 10 ** (2 / 49)


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (0.5, "vanishes"),
        (1 / BORDER - 1e-4, "vanishes"),
        (1 / BORDER + 1e-4, "holds"),
        (1.0, "holds"),
        (-1.0, "holds"),
        (BORDER - 1e-4, "holds"),
        (BORDER + 1e-4, "explodes"),
        (2.0, "explodes"),
    ],
)
def test_the_word_on_a_recurrence_of_known_gain(weight: float, expected: str) -> None:
    scalar = ("model/init=constant", "model.hidden_size=1", "model.nonlinearity=identity")
    ages = ("data.min_days=50", "data.max_days=50", "dtype=float64")
    market, model, _ = built(*scalar, *ages, f"model.init.recurrent_weight={weight}")
    batches = [batch.to(torch.device("cpu"), torch.float64) for batch in market.validation()]
    gradient = measure(model, probe_batch(batches)).gradient
    assert gradient["first_to_last"] == pytest.approx(49 * math.log10(abs(weight)), abs=1e-6)
    assert gradient["verdict"] == expected
    assert verdict(gradient, 49).startswith(f"{expected}: ")


def test_the_borders_and_what_is_not_known() -> None:
    assert [word(x) for x in (-2.0, -1.999, 1.999, 2.0)] == [
        "vanishes",
        "holds",
        "holds",
        "explodes",
    ]
    assert word(-math.inf) == "vanishes"
    assert word(math.inf) == "explodes"
    assert word(math.nan) is None


def said(
    reach: int | None,
    bounded: bool,
    change: float,
    span: int | None,
    **other: object,
) -> str:
    gradient = {
        "verdict": word(change),
        "first_to_last": change,
        "reach_days": reach,
        "reach_is_bounded": bounded,
        "longest_lag": 49,
        "decay_per_day": change / 49,
        "theory_decay_per_day": None,
        "lost_companies": 0,
    }
    return verdict(gradient | other, span)


def test_the_line() -> None:
    assert said(11, True, -9.8, 49) == (
        "vanishes: 1% of it reaches 11 days back; the answer lies 49 days back, out of reach "
        "(-0.2 decades a day)"
    )
    assert "1% of it reaches 1 day back; the answer lies 1 day back, within reach" in said(
        1, True, -9.8, 1
    )
    assert said(49, False, 8.6, 49).startswith(
        "explodes: 10^8.6 times as large on day 1 as on day 50; the answer lies 49 days back, "
        "within reach (+0.1755"
    )
    assert "at least 1% of it reaches all 49 days back" in said(49, False, -0.5, 49)
    assert "where the answer lies is not known" in said(3, True, -9.8, None)
    assert said(6, True, -9.8, 49, theory_decay_per_day=-0.3).endswith("a day, by theory -0.3)")
    assert said(0, True, -9.8, 49, decay_per_day=math.nan).endswith("out of reach")
    assert said(None, True, math.nan, 49) == "vanishes: it is exactly 0 on every day"
    assert said(None, True, math.nan, 49, lost_companies=16) == (
        "not known: the state of all 16 companies is nan"
    )
    assert "one day long" in said(0, False, 0.0, 49, longest_lag=0)


def test_the_numbers_are_those_of_the_flow() -> None:
    market, model, _ = built("data=recall", "data.min_days=20", "data.max_days=20")
    measured = measure(model, probe_batch(market.validation()))
    state = measured.profiles["state"].median
    within = (state >= state[0] - 2).nonzero().max().item()
    assert measured.gradient["reach_days"] == within
    assert measured.gradient["longest_lag"] == len(state) - 1 == 19
    inputs = measured.profiles["x"].median
    reach = (inputs >= inputs[0] - 2 - 1e-9).nonzero().max().item()
    assert measured.gradient["reach_inputs_days"] == reach
    assert torch.isfinite(state).all()
