"""Markets whose answers are classes, asked on the last day or on every day."""

import math
from itertools import permutations, product

import numpy as np
import pytest
import torch
from conftest import FAMILIES, built, ran
from scipy import stats
from torch import Tensor, nn

from statland.batch import Batch, loss
from statland.data.group import multiplication_table
from statland.models.base import SequenceModel, predict_answers
from statland.training.evaluation import baselines, evaluate


def words(batch: Batch) -> Tensor:
    """The number of each day's symbol (B, T)."""
    return batch.x.argmax(2)


def test_parity_is_that_of_the_highs_so_far() -> None:
    it = built("data=parity", "data.labels=every")[0]
    for batch in (it.train_batch(0), *it.validation()):
        for x, age, y in zip(batch.x[..., 0], batch.lengths.tolist(), batch.y, strict=True):
            assert y[:age].tolist() == [sum(x[: day + 1].tolist()) % 2 for day in range(age)]
            assert (y[age:] == -1).all()
    last = built("data=parity", "data.labels=last")[0].train_batch(0)
    assert torch.equal(last.y, it.train_batch(0).of_last_day().y)


@pytest.mark.parametrize("name", ["Z2", "Z60", "S3", "S5"])
def test_the_groups_are_groups_and_permutations_act_one_after_the_other(name: str) -> None:
    table = multiplication_table(name)
    order = len(table)
    assert order == (int(name[1:]) if name[0] == "Z" else math.factorial(int(name[1:])))
    assert all(sorted(line) == list(range(order)) for line in (*table, *table.T))
    a, b, c = np.random.default_rng(0).integers(0, order, (3, 500))
    assert (table[table[a, b], c] == table[a, table[b, c]]).all()
    assert np.array_equal(table, table.T) == (name[0] == "Z")
    if name == "S3":
        elements = list(permutations(range(3)))
        for (i, one), (j, other) in product(enumerate(elements), repeat=2):
            things = ["a", "b", "c"]
            once = [things[place] for place in one]
            twice = [once[place] for place in other]
            assert [things[p] for p in elements[multiplication_table("S3")[j, i]]] == twice


def test_products_are_folded_by_the_table() -> None:
    it = built("data=group", "data.group=S5")[0]
    for elements, age, y in zip(
        words(batch := it.train_batch(3)), batch.lengths, batch.y, strict=True
    ):
        so_far = 0
        for day in range(int(age)):
            so_far = it.table[so_far, int(elements[day])]
            assert y[day] == so_far


def test_copies_come_after_the_mark_in_their_order() -> None:
    it = built("data=copy", "data.min_days=3", "data.max_days=9")[0]
    for batch in it.validation():
        for day, age, y in zip(
            words(batch).tolist(), batch.lengths.tolist(), batch.y.tolist(), strict=True
        ):
            pause = age - 20
            assert day[10:age] == [8] * pause + [9] + [8] * 9
            assert y[:age] == [8] * (pause + 10) + day[:10]
    mean_age = torch.cat([b.lengths for b in it.validation()]).double().mean().item()
    assert baselines(it)["memoryless"] == pytest.approx(10 * math.log(8) / mean_age)


def test_values_are_those_of_the_keys_that_come_again() -> None:
    it = built("data=pairs", "data.min_days=12", "data.max_days=20", "data.pairs=4")[0]
    for batch in it.validation():
        asked_last = it.answer(batch).int().argmax(1).tolist()
        for word, age, y, marked in zip(
            words(batch).tolist(), batch.lengths, batch.y, asked_last, strict=True
        ):
            value_of = dict(zip(word[0:8:2], word[1:8:2], strict=True))
            days = (y >= 0).nonzero()[:, 0].tolist()
            assert days[0] >= 8
            assert days[-1] == age - 1
            assert sorted(word[day] for day in days) == sorted(value_of)
            assert y[days].tolist() == [value_of[word[day]] for day in days]
            assert marked == word.index(word[age - 1]) + 1
            assert max(value_of) < 16 <= min(value_of.values())


@pytest.mark.parametrize("power", [1.0, 0.5, 0.01])
def test_questions_come_by_a_power_of_their_distance_from_the_pairs(power: float) -> None:
    """Of two the last is on the last day; the other's days are as often as theory has it."""
    settings = ("data.min_days=14", "data.max_days=14", "data.batch_size=4096")
    it = built("data=pairs", *settings, f"data.gap_power={power}")[0]
    asked = torch.cat([it.train_batch(step).y for step in range(5)]) >= 0
    seen = asked[:, 4:13].sum(0).numpy()
    theory = np.arange(1, 10) ** (power - 1)
    assert stats.chisquare(seen, theory / theory.sum() * seen.sum()).pvalue > 1e-3
    assert asked[:, -1].all()
    assert not asked[:, :4].any()


def test_only_the_first_and_the_last_symbol_of_a_long_lag_differ() -> None:
    it = built("data=long_lag", "data.max_days=7")[0]
    batch = it.train_batch(0)
    assert set(words(batch)[:, 0].tolist()) == {0, 1}
    for symbols, y in zip(words(batch).tolist(), batch.y.tolist(), strict=True):
        assert symbols[1:] == [2, 3, 4, 5, 6, 7]
        assert y == [*symbols[1:], symbols[0]]
    assert baselines(it)["memoryless"] == pytest.approx(math.log(2) / 7)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_day_answers_as_forward_does_on_a_history_that_ends_there(family: str) -> None:
    """With gradients; whatever stands in the padding."""
    _, model, _ = built(f"model={family}", "data=group", "data.labels=last", "dtype=float64")
    if type(model).every_day is SequenceModel.every_day:
        pytest.skip("it has none, and is refused where every day is asked")
    x, y = torch.randn(3, 23, 6, dtype=torch.float64), torch.randint(0, 6, (3, 23))
    lengths = torch.tensor([23, 1, 14])
    y[torch.arange(23) >= lengths[:, None]] = -1
    plain = [
        model(x[b : b + 1, : t + 1], torch.tensor([t + 1]))
        for b in range(3)
        for t in range(int(lengths[b]))
    ]
    by_hand = loss(torch.cat(plain), y[y >= 0])
    x = x.where((y >= 0)[..., None], math.nan)
    found = loss(predict_answers(model, batch := Batch(x, lengths, y)), batch.answers)
    torch.testing.assert_close(found, by_hand, rtol=1e-10, atol=0)
    parameters = [p for p in model.parameters() if p.requires_grad]
    theirs = torch.autograd.grad(by_hand, parameters)
    for ours, other in zip(torch.autograd.grad(found, parameters), theirs, strict=True):
        assert (ours - other).norm() <= 1e-9 * max(other.norm(), 1e-30)


class Always(nn.Module):
    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def every_day(self, x: Tensor) -> Tensor:
        return self.logits.expand(*x.shape[:2], -1)


def test_classes_are_scored_over_all_answers_and_whole_companies() -> None:
    it = built("data=parity", "data.labels=every")[0]
    batch = Batch(torch.ones(2, 3, 1), torch.tensor([3, 2]), torch.tensor([[1, 0, 1], [1, 1, -1]]))
    scores = evaluate(Always(0.0, math.log(3)), it, [batch])  # probabilities 1/4 and 3/4
    assert scores["accuracy"] == pytest.approx(4 / 5)
    assert scores["sequence_accuracy"] == pytest.approx(1 / 2)
    assert scores["cross_entropy"] == pytest.approx(-(4 * math.log(3 / 4) + math.log(1 / 4)) / 5)
    assert math.isnan(evaluate(Always(0.0, math.nan), it, [batch])["accuracy"])


def test_the_constant_of_classes_is_their_frequency() -> None:
    it = built("data=copy", "data.max_days=5")[0]
    y = torch.cat([it.train_batch(step).answers for step in range(64)]).tolist()
    odds = [(y.count(k) + 1) / (len(y) + 9) for k in range(9)]
    asked = torch.cat([batch.answers for batch in it.validation()]).tolist()
    expected = -sum(math.log(odds[k]) for k in asked) / len(asked)
    assert baselines(it)["constant"] == pytest.approx(expected)


def test_longer_histories_are_a_validation_of_their_own(tmp_path) -> None:
    """Older companies of the same market, scored before and after training."""
    settings = ("data=parity", "data.longer_days=60", "steps=3", "probe_every=null")
    summary = ran(tmp_path, *settings)
    assert set(summary["longer"]) == {"before", "after"}
    assert set(summary["longer"]["after"]) == {"cross_entropy", "accuracy"}
    older = built("data=parity", "data.min_days=40", "data.max_days=60", "steps=0")
    torch.manual_seed(0)
    _, model, _ = built("data=parity")
    expected = evaluate(model, older[0], older[0].validation())
    assert summary["longer"]["before"] == pytest.approx(expected)
    alone = ran(tmp_path / "alone", *settings, "data.longer_days=null")
    assert alone["longer"] == {}
    assert alone["validation"] == summary["validation"]


@pytest.mark.parametrize("model", ["exprnn", "rnn_cell", "lstm"])
def test_the_feedback_has_a_learning_rate_of_its_own(model: str) -> None:
    """With SGD an update is the rate times the gradient."""
    moved = {}
    for factor in (1, 0.1):
        it, net, optimizer = built(
            f"model={model}",
            "optimizer=sgd",
            f"optimizer.lr_of.recurrent={factor}",
            "dtype=float64",
        )
        before = {name: p.detach().clone() for name, p in net.named_parameters()}
        batch = it.train_batch(0).to(torch.device("cpu"), torch.float64)
        loss(predict_answers(net, batch), batch.answers).backward()
        optimizer.step()
        moved[factor] = {name: p.detach() - before[name] for name, p in net.named_parameters()}
    for name, whole in moved[1].items():
        factor = 0.1 if "weight_hh" in name else 1
        torch.testing.assert_close(moved[0.1][name], factor * whole, rtol=1e-9, atol=1e-15)
    assert any("weight_hh" in name for name in moved[1])
