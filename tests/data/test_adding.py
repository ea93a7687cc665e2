"""Adding, sum and hochreiter: where the marks stand, what the answer is, when it is right."""

import pytest
import torch
from conftest import built, is_uniform
from torch import Tensor

from statland.batch import Batch
from statland.data.adding import Adding
from statland.training.evaluation import baselines

OF_1997 = ("data.convention=hochreiter", "data.min_days=null", "data.max_days=110")


def adding(*overrides: str) -> Adding:
    market = built("data=adding", *overrides)[0]
    assert isinstance(market, Adding)
    return market


def companies(market: Adding, steps: int) -> Batch:
    """Those of many training batches together, all padded to one length."""
    batches = [market.train_batch(step) for step in range(steps)]
    x = [torch.nn.functional.pad(b.x, (0, 0, 0, market.max_days - b.x.shape[1])) for b in batches]
    return Batch(
        torch.cat(x), torch.cat([b.lengths for b in batches]), torch.cat([b.y for b in batches])
    )


def marked(marks: Tensor) -> Tensor:
    """Which two days of each company (B, 2), counted from 1, hold a 1."""
    assert (marks == 1).sum(1).unique().tolist() == [2]
    return (marks == 1).nonzero()[:, 1].reshape(-1, 2) + 1


def test_of_sum_one_mark_stands_in_each_half_and_the_answer_is_their_sum() -> None:
    x, ages, y = companies(adding(), 300)
    values, marks = x.double().unbind(2)
    assert marks.unique().tolist() == [0, 1]
    first, second = marked(marks).unbind(1)
    assert (first <= ages // 2).all()
    assert (second > ages // 2).all()
    assert (second <= ages).all()
    torch.testing.assert_close(y[:, 0].double(), (values * marks).sum(1), rtol=0, atol=1e-6)


def test_values_and_places_of_sum_are_uniform() -> None:
    x, ages, _ = companies(adding("data.min_days=21", "data.max_days=21"), 300)
    values, marks = x.double().unbind(2)
    first, second = marked(marks).unbind(1)
    assert is_uniform(first, 1, 10)
    assert is_uniform(second, 11, 21)
    assert is_uniform((values.flatten() * 16).long(), 0, 15)
    table = torch.zeros(10, 11).double()
    table.index_put_((first - 1, second - 11), torch.tensor(1.0).double(), accumulate=True)
    expected = len(ages) / 110  # each place is drawn without regard to the other
    assert (table - expected).abs().max() < 5 * expected**0.5


def test_anywhere_marks_any_two_days_each_pair_as_often() -> None:
    nine_days = "data.min_days=9", "data.max_days=9"
    x, ages, y = companies(adding("data.convention=anywhere", *nine_days), 300)
    values, marks = x.double().unbind(2)
    pairs = torch.zeros(10, 10).double()
    pairs.index_put_(tuple(marked(marks).T), torch.tensor(1.0).double(), accumulate=True)
    expected, off = len(ages) / 36, torch.triu_indices(9, 9, 1) + 1
    assert ((pairs[*off] - expected).abs() < 5 * expected**0.5).all()
    torch.testing.assert_close(y[:, 0].double(), (values * marks).sum(1), rtol=0, atol=1e-6)


def test_a_fixed_set_of_sequences_comes_round_again_and_again() -> None:
    """70 of them in batches of 32, 32 and 6, all different; the first 32 are those of no set."""
    market, endless = adding("data.sequences=70"), adding()
    rounds = [market.train_batch(step) for step in range(6)]
    assert [len(batch.x) for batch in rounds] == [32, 32, 6] * 2
    for first, again in zip(rounds[:3], rounds[3:], strict=True):
        assert all(map(torch.equal, first, again))
    assert torch.cat([batch.y for batch in rounds[:3]]).unique().numel() == 70
    assert torch.equal(rounds[0].x, endless.train_batch(0).x)


def test_the_best_constant_of_sum_has_an_error_of_a_sixth_and_not_of_0_1767() -> None:
    y = companies(adding("data.batch_size=1000"), 60).y.double()
    squares = (y - 1).square()
    deviation = squares.std().item() / len(y) ** 0.5
    assert squares.mean().item() == pytest.approx(1 / 6, abs=5 * deviation)
    assert 10 * deviation < 0.1767 - 1 / 6
    held_out = torch.cat([batch.y for batch in adding().validation()]).double()
    spread = (held_out - 1).square().mean().item()
    # The constant is the mean of 2048 training companies, 0.009 from 1.
    assert baselines(adding())["constant"] == pytest.approx(spread, abs=0.003)


def test_hochreiters_marks_and_answer_are_the_papers() -> None:
    """T is 100: X1 within the first 10, X2 within the first 50, ages to 110."""
    market = adding(*OF_1997)
    x, ages, y = companies(market, 600)
    values, marks = x.double().unbind(2)
    each = torch.arange(len(ages))
    assert (ages.min(), ages.max()) == (100, 110)
    assert marks.unique().tolist() == [-1, 0, 1]
    assert (marks[:, 0] == -1).all()
    assert (marks[each, ages - 1] == -1).all()
    assert ((marks == -1).sum(1) == 2).all()
    ones = (marks == 1).sum(1)
    assert ones.unique().tolist() == [1, 2]  # one where the first day was chosen
    assert (values[ones == 1, 0] == 0).all()
    assert (values[ones == 2, 0] != 0).all()
    chosen = 1 / 10 + 9 / 10 / 49
    assert (ones == 1).double().mean().item() == pytest.approx(
        chosen, abs=5 * (chosen / len(ages)) ** 0.5
    )
    torch.testing.assert_close(
        y[:, 0].double(), 0.5 + (values * (marks == 1)).sum(1) / 4, rtol=0, atol=1e-6
    )
    inside = is_uniform(((values[:, 1:100].flatten() + 1) * 8).long(), 0, 15)
    assert inside, "values are not uniform in [-1, 1]"


def test_hochreiters_places_are_drawn_one_after_the_other() -> None:
    """A pair is drawn with 1/10 1/49, and one within the first ten days in two ways."""
    x, ages, _ = companies(adding(*OF_1997, "data.batch_size=200"), 300)
    marks = x[..., 1]
    kept = marks[(marks == 1).sum(1) == 2]
    days = marked(kept)
    assert days.max() == 50
    counts = torch.zeros(51, 51).double()
    counts.index_put_(tuple(days.T), torch.tensor(1.0).double(), accumulate=True)
    for early in range(1, 51):
        for late in range(1, 51):
            ways = 0 if early >= late or early == 1 else (early <= 10) + (late <= 10)
            expected = len(ages) * ways / 490
            assert abs(counts[early, late] - expected) <= 5.5 * expected**0.5, (early, late)


@pytest.mark.parametrize("days", [4, 5, 23])
def test_hochreiters_values_stand_in_the_first_half_of_short_histories_too(days: int) -> None:
    ages = (f"data.min_days={days}", f"data.max_days={days}")
    x, _, _ = companies(adding("data.convention=hochreiter", *ages), 100)
    day = (x[..., 1] == 1).nonzero()[:, 1] + 1
    assert (day.min(), day.max()) == (2, days // 2)


def test_the_age_of_the_youngest_may_follow_from_that_of_the_oldest() -> None:
    ages = {
        days: adding("data.min_days=null", f"data.max_days={days}").min_days
        for days in (6, 110, 550, 1100)
    }
    assert ages == {6: 5, 110: 100, 550: 500, 1100: 1000}


def test_a_sequence_is_right_below_0_04() -> None:
    y = torch.zeros(5, 1).double()
    error = torch.tensor([[0.0], [0.0399], [-0.0399], [0.0401], [torch.nan]]).double()
    right = adding().score(y + error, y)["accuracy"]
    assert right[:4].tolist() == [1, 1, 1, 0]
    assert right[4].isnan()
