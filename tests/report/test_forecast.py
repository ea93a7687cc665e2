"""The forecast against sums over pairs and over thresholds, and what a later run reads of it."""

import math
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from statland.report.forecast import (
    QUANTITIES,
    best_threshold,
    forecast,
    roc_area,
    why_unsolved,
    with_known_answer,
    write_outlook,
)
from statland.training import outlook

INF, NAN = math.inf, math.nan


def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Values with ties and exact zeros, and whether each run solves."""
    rng = np.random.default_rng(count)
    solved = np.arange(count) % 3 == 0
    return np.where(rng.random(count) < 0.2, -INF, rng.integers(-4, 1, count) + solved), solved


def right(values: np.ndarray, solved: np.ndarray, threshold: float) -> int:
    return sum((v >= threshold) == s for v, s in zip(values, solved, strict=True))


def runs_of(
    shares: list[float], solved: list[bool], contestants: str, **other: object
) -> pd.DataFrame:
    """Trained runs on one market, each with one letter of `contestants`."""
    frame = pd.DataFrame(
        {"share_before": shares, "solved": solved, "contestant": list(contestants)}
    )
    known = dict.fromkeys(QUANTITIES.values(), NAN) | {"counts": True, "steps": 100}
    known |= {"best_baseline": 0.25, "market": "m", "model": frame["contestant"]}
    known |= {"importance_after": 0.0, "status": "completed"}
    known |= {"verdict_before": np.where(frame["share_before"] >= -2, "holds", "vanishes")}
    return frame.assign(**{k: v for k, v in known.items() if k not in frame} | other)


@pytest.mark.parametrize("count", [2, 5, 40])
def test_the_area_is_the_part_of_pairs_that_are_ranked_right(count: int) -> None:
    values, solved = drawn(count)
    pairs = list(product(values[solved], values[~solved]))
    area = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)
    assert roc_area(values, solved) == pytest.approx(area)


def test_each_run_that_does_not_solve_has_one_reason() -> None:
    runs = runs_of([-9.0, 0.0, 0.0, 0.0, -INF, 0.0, 0.0], [False] * 6 + [True], "abcdaea")
    runs["log10_dp_dw_before"] = [3, 3, NAN, 1, 0, 0, 5]
    runs["importance_after"] = [0, 0, 0.1, 0.9, 0, NAN, 1]
    runs.loc[5, "status"] = "diverged"
    assert why_unsolved(runs).split("; ") == [
        "why 5 runs do not solve: the gradient does not reach the answer: 2 (a)",
        "it does, and the weights are too sensitive (dp/dW above 10^2): 1 (b)",
        "it does, and the answer is not used: more steps, or the model cannot compute it: 1 (c)",
        "the answer is used, and not yet right: 1 (d)",
    ]
    assert why_unsolved(runs[runs["solved"]]) == ""


@pytest.mark.parametrize("count", [1, 5, 40])
def test_no_threshold_is_right_more_often_than_the_best(count: int) -> None:
    values, solved = drawn(count)
    found = right(values, solved, best_threshold(values, solved))
    between = [-INF, INF, *values, *(values + 0.5), *(values - 0.5)]
    assert found == max(right(values, solved, threshold) for threshold in between)


def test_resamples_in_which_all_runs_solve_or_none_are_left_out() -> None:
    """Of two contestants the resamples that are left are the runs themselves."""
    runs = runs_of([0, -1, -3, -0.5], [True, True, False, False], "aabb")
    found = forecast(runs)
    assert found is not None
    row = found.areas.iloc[0]
    assert (row["area"], row["low"], row["high"]) == (0.75, 0.75, 0.75)
    assert "in 75% of pairs (95% interval 75% to 75%)" in found.sentence


def test_a_market_s_runs_are_judged_by_the_threshold_of_the_others() -> None:
    shares, solved = [0.0, -1, -5, -6, -3, -9], [True, True, False, False, True, False]
    runs = runs_of(shares, solved, "abcdab", market=["one"] * 4 + ["two"] * 2)
    found = forecast(runs)
    assert found is not None
    unseen = right(np.array([-3.0, -9]), np.array([True, False]), -3)  # midway
    unseen += right(np.array(shares[:4]), np.array(solved[:4]), -6)
    row = found.areas.iloc[0]
    assert (row["threshold"], row["right"]) == (-4, 1)
    assert row["right, market left out"] == unseen / 6


def test_the_word_s_four_counts() -> None:
    shares = [-1.0, -1, -9, -9, -1, -9]
    runs = runs_of(shares, [True, False, True, False, True, False], "aabbcc")
    found = forecast(runs)
    assert found is not None
    names = ["holds, solved", "holds, unsolved", "not, solved", "not, unsolved"]
    rows = found.counts.set_index("contestant")[names].to_numpy().tolist()
    assert found.counts["contestant"].tolist() == ["a", "b", "all runs"]  # for c it is right
    assert rows == [[1, 1, 0, 0], [0, 0, 1, 1], [2, 1, 1, 2]]
    assert "the word before training is right for 4 of 6 runs" in found.sentence


def test_without_an_answer_there_is_no_forecast_and_without_both_outcomes_no_area() -> None:
    runs = runs_of([-1.0, -9], [True, False], "ab")
    for unknown in ({"share_before": NAN}, {"steps": 0}, {"counts": False}, {"best_baseline": 0.0}):
        assert forecast(runs.assign(**unknown)) is None
    for outcome, which in ((True, "all"), (False, "none")):
        found = forecast(runs.assign(solved=outcome))
        assert found is not None
        assert found.areas.empty
        assert f"no forecast to judge: {which} of the runs solve; the word" in found.sentence
    assert len(with_known_answer(runs.assign(share_before=[-INF, NAN]))) == 1


def test_what_is_written_is_what_a_later_run_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares, path = [-1.0, -1.4, -1.6, -INF, -INF, -INF, NAN], tmp_path / "outlook.csv"
    monkeypatch.setattr(outlook, "RUNS", path)
    monkeypatch.setattr(outlook, "FEWEST", 1)
    assert outlook.outlook(-1.0) is None
    runs = runs_of(shares, [True, False, False, True, False, False, True], "abcdefg")
    assert write_outlook(path, runs.assign(**{"data": "recall", "data.batch_size": 32})) == 6
    assert pd.read_csv(path)["sequences"].tolist() == [3200] * 6
    for share, told in (
        (-1.0, "of 2 such runs, 50% solved"),
        (-1.5, "of 3 such runs, 33% solved"),
        (-1.95, "of 1 such runs, 0% solved"),
        (-INF, "of 3 such runs, 33% solved"),
        (-400.0, None),
        (None, None),
    ):
        assert outlook.outlook(share) == told
