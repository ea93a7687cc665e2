"""The even share against sums in plain floating point, and flows that no float holds."""

import math

import pytest
import torch
from torch import Tensor

from statland.gradients.flow import by_lag
from statland.gradients.share import answer_share, reach_days, shares, word

nan, inf = math.nan, math.inf


def flow(*companies: list[float], days: int) -> Tensor:
    """log10 of flows by lag, nan behind a company's first day."""
    return torch.tensor([c + [nan] * (days - len(c)) for c in companies]).double().log10()


def test_shares_sum_to_one_for_each_company() -> None:
    log10 = torch.randn(5, 9).double() * 3
    log10[2, 4:] = nan
    log10[3] = nan
    log10[4] = -inf
    part = shares(log10)
    assert part[:3].sum(1).tolist() == pytest.approx([1, 1, 1])
    assert not part[3:].any()
    plain = 10 ** log10[0] / (10 ** log10[0]).sum()
    torch.testing.assert_close(part[0], plain)
    torch.testing.assert_close(shares(log10 + 5000), part)  # whatever the size


def test_the_word_is_by_the_share_of_the_first_day_and_of_the_last() -> None:
    even = flow([1.0] * 10, [1.0] * 4, days=10)
    assert word(even) == "holds"
    lags = torch.arange(50).double()
    assert word(lags[None] * math.log10(0.5)) == "vanishes"
    assert word(lags[None] * math.log10(2)) == "explodes"
    assert word(torch.full((2, 5), -inf).double()) == "vanishes"
    assert word(torch.full((2, 5), nan).double()) is None
    assert word(torch.zeros(3, 1).double()) is None
    # A path of the last day's own is no vanishing: 99 days share the rest alike.
    assert word(flow([50.0] + [1.0] * 99, days=100)) == "holds"
    # In the middle alone: the first day is tested first.
    assert word(flow([1e-9, 1.0, 1e-9], days=3)) == "vanishes"
    # The mean over companies: one of ten that holds is a tenth of an even share.
    some = torch.cat([flow([1.0] * 20, days=20), lags[None, :20].expand(9, -1) * -1.0])
    assert word(some) == "holds"


def test_reach_is_the_days_that_hold_99_percent() -> None:
    for w in (0.5, 0.9, 0.99):
        log10 = torch.arange(2000).double()[None] * math.log10(w)
        expected = math.ceil(math.log(0.01) / math.log(w) - 1 - 1e-6)  # 1 - w^(R + 1) >= 0.99
        assert reach_days(log10) == expected
    assert reach_days(torch.zeros(3, 100).double()) == 98  # of an even gradient 99 of 100 days
    assert reach_days(torch.zeros(3, 10).double()) == 9
    assert reach_days(flow([1.0], days=1)) == 0
    assert reach_days(torch.full((2, 5), -inf).double()) is None
    assert reach_days(torch.full((2, 5), nan).double()) is None
    # Companies count alike, however large their flow.
    both = torch.stack([torch.zeros(100).double(), torch.arange(100).double() * -300 + 1000])
    assert reach_days(both) == 97


def test_the_answer_s_share() -> None:
    answer = torch.zeros(1, 100, dtype=torch.bool)
    answer[0, 99] = True
    assert answer_share(torch.zeros(1, 100).double(), answer) == pytest.approx(0, abs=1e-12)
    # All of the gradient on the answer: sqrt(T) times an even share.
    alone = torch.full((1, 100), -inf).double()
    alone[0, 99] = 700
    assert answer_share(alone, answer) == pytest.approx(1)
    falling = torch.arange(100).double()[None] * math.log10(0.5)
    total = math.log10(sum(0.25**k for k in range(100))) / 2
    assert answer_share(falling, answer) == pytest.approx(99 * math.log10(0.5) - total + 1)
    assert answer_share(falling * 100, answer) < -2900
    zero = torch.zeros(1, 100).double()
    zero[0, 99] = -inf
    assert answer_share(zero, answer) == -inf
    assert math.isnan(answer_share(zero, torch.zeros_like(answer)))
    assert math.isnan(answer_share(torch.zeros(2, 1).double(), torch.ones(2, 1).bool()))


def test_the_weakest_day_of_each_company_counts_and_companies_by_their_mean_square() -> None:
    f = torch.rand(3, 6).double() + 0.1
    ages = torch.tensor([6, 4, 6])
    answer = torch.tensor([[0, 1, 0, 0, 1, 0], [1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]]).bool()
    log10 = f.log10()
    log10[1, 4:] = nan
    squares, evens = [], []
    for company in (0, 1):  # the third has no answer
        days = f[company, : ages[company]]
        weakest = days[answer[company, : ages[company]]].min()
        squares.append((weakest / days.norm()) ** 2)
        evens.append(1 / ages[company])
    expected = (sum(squares) / sum(evens)).sqrt().log10().item()
    assert answer_share(log10, answer) == pytest.approx(expected)


def test_marks_by_lag() -> None:
    days = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0]]).bool()
    found = by_lag(days.double(), torch.tensor([4, 2]), torch.zeros(2).bool()) == 1
    assert found.tolist() == [[False, False, False, True], [True, False, False, False]]
