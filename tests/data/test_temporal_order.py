"""Temporal order: symbols, where they stand, the classes, and when one is right."""

import itertools

import pytest
import torch
from conftest import built, is_uniform

from statland.batch import Batch
from statland.data.temporal_order import SYMBOLS, TemporalOrder, windows
from statland.training.evaluation import baselines

OF_1997 = ("data.min_days=null", "data.max_days=110", "data.batch_size=200")

# Days of the paper's histories, and its classes in its own order.
PLACES = {"6a": [(10, 20), (50, 60)], "6b": [(10, 20), (33, 43), (66, 76)]}
CLASSES = {
    "6a": ["XX", "XY", "YX", "YY"],
    "6b": ["XXX", "XXY", "XYX", "XYY", "YXX", "YXY", "YYX", "YYY"],
}


def order(*overrides: str) -> TemporalOrder:
    market = built("data=temporal_order", *overrides)[0]
    assert isinstance(market, TemporalOrder)
    return market


def words(batch: Batch) -> list[tuple[str, int]]:
    """Each company's symbols, and the number of its class."""
    assert (batch.y.sort(1).values[:, -1] == 1).all()
    assert (batch.y.sum(1) == 1).all()
    found = []
    for x, age, y in zip(batch.x, batch.lengths.tolist(), batch.y, strict=True):
        assert set(x.unique().tolist()) <= {0, 1}
        assert (x[:age].sum(1) == 1).all()
        found.append(
            ("".join(SYMBOLS[place] for place in x[:age].argmax(1).tolist()), int(y.argmax()))
        )
    return found


@pytest.mark.parametrize("task", PLACES)
def test_histories_are_the_papers(task: str) -> None:
    market = order(*OF_1997, f"data.task={task}")
    assert (market.input_size, market.output_size) == (8, len(CLASSES[task]))
    ages, places, classes = set(), [], []
    for batch in (market.train_batch(step) for step in range(40)):
        for word, label in words(batch):
            assert word[0] == "E"
            assert word[-1] == "B"
            assert set(word[1:-1]) <= set("abcdXY")
            days = [day for day, symbol in enumerate(word, 1) if symbol in "XY"]
            assert "".join(word[day - 1] for day in days) == CLASSES[task][label]
            ages.add(len(word))
            places.append(days)
            classes.append(label)
    assert ages == set(range(100, 111))
    for days, (first, last) in zip(torch.tensor(places).unbind(1), PLACES[task], strict=True):
        assert is_uniform(days, first, last)
    assert is_uniform(torch.tensor(classes), 0, len(CLASSES[task]) - 1)


def test_the_days_between_are_drawn_evenly() -> None:
    text = "".join(word for word, _ in words(order(*OF_1997).train_batch(0)))
    places = torch.tensor(["abcd".find(symbol) for symbol in text])
    assert is_uniform(places[places >= 0], 0, 3)


@pytest.mark.parametrize("task", PLACES)
def test_windows_follow_one_another_however_short_the_histories(task: str) -> None:
    symbols = len(PLACES[task])
    for days in range(symbols + 2, 400):
        found = windows(days, task)
        assert len(found) == symbols
        for (_, before), (first, last) in itertools.pairwise([(1, 1), *found]):
            assert before < first <= last < days
    assert windows(100, task) == PLACES[task]
    assert windows(1000, task)[0] == (100, 200)


@pytest.mark.parametrize(("task", "error"), [("6a", 3 / 16), ("6b", 7 / 64)])
def test_the_best_constant_knows_only_how_many_classes_there_are(task: str, error: float) -> None:
    """(1 - 1/K)^2 / K + (K - 1) / K^3, and of second order what 2048 drawn classes' mean is off."""
    found = baselines(order(f"data.task={task}"))
    assert found["constant"] == pytest.approx(error, rel=0.01)
    assert found["ar2"] == pytest.approx(error, rel=0.15)


def test_a_sequence_is_right_where_every_output_is_within_0_3() -> None:
    y = torch.eye(4)[[0, 1, 2, 3]].double()
    error = torch.zeros(4, 4).double()
    error[1, 0], error[1, 3] = 0.29, -0.29
    error[2, 2] = -0.31
    error[3, 1] = torch.nan
    right = order().score(y + error, y)["accuracy"]
    assert right[:3].tolist() == [1, 1, 0]
    assert right[3].isnan()
