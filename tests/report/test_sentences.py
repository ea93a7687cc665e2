"""Which runs a verdict is on, and what it says of them."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from run_folders import made
from scipy import stats

from statland.report import load
from statland.report.comparison import compare

LSTM, RNN, GRU = [0.001, 0.002, 0.003], [0.020, 0.022, 0.024], [0.10, 0.13, 0.12]
ZERO, ONE = [0.20, 0.22, 0.21], [0.21, 0.19, 0.20]
INF, NAN = math.inf, math.nan


def runs_of(folder: Path, **losses: list[float]) -> pd.DataFrame:
    """Runs of each model, by seed; inf diverged and nan failed."""
    for model, by_seed in losses.items():
        for seed, mse in enumerate(by_seed):
            status = {"inf": "diverged", "nan": "failed"}.get(str(mse), "completed")
            more: dict[str, Any] = {"baselines": {}} if status == "failed" else {}
            made(folder / f"{model}{seed}", model, 10, seed, mse, status=status, **more)
    return load(folder)


def sentence_of(runs: pd.DataFrame) -> str:
    (verdict,) = compare(runs).verdicts
    assert "nan" not in verdict.sentence
    return verdict.sentence.removeprefix("all runs: ")


def test_a_winner_is_named_with_its_lead_interval_and_seeds(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, rnn=RNN, lstm=LSTM, gru=GRU)
    # Of the two tests the one with the larger p.
    nearest, lead = max(
        (stats.ttest_rel(losses, LSTM).pvalue, f"{name} by {np.mean(losses) - 0.002:.3g}")
        for name, losses in (("rnn", RNN), ("gru", GRU))
    )
    assert nearest < 0.05
    assert sentence_of(runs).startswith(f"lstm wins: lstm leads {lead} (95% interval ")
    assert sentence_of(runs).endswith(
        " over 3 seeds, and it beats the best baseline, constant at 0.25"
    )


@pytest.mark.parametrize(
    ("losses", "sentence"),
    [
        (
            {"a": ZERO, "b": ONE, "c": [0.24, 0.245, 0.243]},  # from c it is separated
            "nothing separates b from a (b leads a by 0.01 "
            "(95% interval -0.0397 to 0.0597) over 3 seeds)",
        ),
        ({"a": LSTM, "b": LSTM}, "nothing separates a from b (a and b are equal over 3 seeds)"),
        (
            {"a": LSTM[:2], "b": RNN[:2]},
            "no verdict: three seeds are needed, and no two contestants share so many",
        ),
        (  # c has failed and has no baselines; those of the others count
            {"c": [NAN] * 3, "a": [0.26, 0.261, 0.262], "b": [0.36, 0.362, 0.364]},
            "nothing beats the best baseline, constant at 0.25 (a trails the baseline constant by "
            "0.011 (95% interval 0.00852 to 0.0135) over 3 seeds); "
            "left out, with fewer than three seeds shared with a: c",
        ),
        (
            {"a": [0.001, INF, 0.0011, 0.001], "b": [0.1, 0.11, 0.12, 0.13]},
            "nothing separates b from a (b trails a by 0.116 (95% interval 0.0777 to 0.154) over "
            "3 seeds); a diverged on 1 of 4 seeds and cannot win",
        ),
        (
            {"a": [INF] * 3, "b": [0.1, 0.1, 0.1]},
            "b wins: b leads the baseline constant by 0.15 (95% interval 0.15 to 0.15) over 3 seeds"
            ", and it beats the best baseline, constant at 0.25; a diverged on 3 of 3 seeds and "
            "cannot win",
        ),
        (
            {"a": [INF] * 2, "b": [INF]},
            "no verdict: every contestant diverged; a diverged on 2 of 2 seeds and cannot win; "
            "b diverged on 1 of 1 seed and cannot win",
        ),
        (  # b's best runs are on seeds that a lacks
            {"a": [0.10, 0.101, 0.102], "b": [0.13, 0.131, 0.133, 1e-5, 1e-5], "c": [0.2]},
            "a wins: a leads b by 0.0303 (95% interval 0.0289 to 0.0318) over 3 seeds, and it "
            "beats the best baseline, constant at 0.25; "
            "left out, with fewer than three seeds shared with a: c",
        ),
    ],
)
def test_the_sentence_tells_the_outcome(
    losses: dict[str, list[float]], sentence: str, tmp_path: Path
) -> None:
    assert sentence_of(runs_of(tmp_path, **losses)) == sentence


def test_the_difference_is_paired_by_seed(tmp_path: Path) -> None:
    """Seeds that differ much more than the models do not hide a steady lead."""
    a, b = [0.02, 0.10, 0.18], [0.03, 0.111, 0.192]
    assert stats.ttest_ind(a, b).pvalue > 0.5
    runs = runs_of(tmp_path, a=a, b=b)
    # Against a baseline that does not go up and down with them three seeds are too few.
    assert "nothing is shown to beat the best baseline, constant at 0.25" in sentence_of(runs)
    assert "nothing separates" not in sentence_of(runs)
    moves = runs.assign(**{"baseline/zero": runs["seed"].map(dict(enumerate(b)))})
    moves.loc[moves["model"] == "b", "baseline/zero"] = NAN  # any run on a seed gives it
    assert sentence_of(moves).startswith("a wins: a leads b by 0.011 ")
    assert sentence_of(moves).endswith("the best baseline, zero at 0.111")
    exact = runs.assign(**{"baseline/ar2": 1e-30})
    assert sentence_of(exact).startswith("nothing can win: a baseline, ar2, is exact (a leads b")
    unknown = runs.assign(**{"baseline/constant": NAN, "baseline/persistence": NAN})
    assert sentence_of(unknown).startswith("no verdict: no baseline is known on every seed")


def test_the_newest_completed_repeat_counts_and_only_it(tmp_path: Path) -> None:
    """Whatever the runs that were not completed, or that completed without a finite loss."""
    runs = runs_of(tmp_path, a=LSTM, b=RNN)
    older = runs.assign(validation=runs["validation"] * 7, ended=runs["ended"] - 60)
    unended = runs.assign(validation=0.0, status="interrupted", ended=runs["ended"] + 60)
    unended = pd.concat([unended, unended.assign(status="unfinished", ended=NAN)])
    diverged = runs.assign(status="diverged", ended=runs["ended"] + 60)
    together = pd.concat([runs, older, unended, diverged], ignore_index=True)
    assert sentence_of(together) == sentence_of(runs)
    comparison = compare(together)
    left_out = next(fact for fact in comparison.facts if fact.startswith("left out: "))
    for count in ("12 repeats", "6 interrupted", "6 unfinished"):
        assert count in left_out
    assert comparison.summary["n"].tolist() == [3, 3]
    assert comparison.summary["validation"].tolist() == [np.mean(LSTM), np.mean(RNN)]
    assert "3 interrupted" in comparison.summary["status"][0]
    lost = runs.assign(validation=runs["validation"].where(runs["run"] != "a1", NAN))
    assert "a diverged on 1 of 3 seeds and cannot win" in sentence_of(lost)
