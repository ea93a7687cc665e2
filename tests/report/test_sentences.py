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


def runs_of(folder: Path, **losses: list[float]) -> None:
    """Runs of each model, by seed; inf diverged and nan failed."""
    for model, by_seed in losses.items():
        for seed, mse in enumerate(by_seed):
            status = {"inf": "diverged", "nan": "failed"}.get(str(mse), "completed")
            more: dict[str, Any] = {"baselines": {}} if status == "failed" else {}
            made(folder / f"{model}{seed}", model, 10, seed, mse, status=status, **more)


def sentence_of(runs: pd.DataFrame | Path, *where: str) -> str:
    runs = load(runs) if isinstance(runs, Path) else runs
    (verdict,) = compare(runs, where=where).verdicts
    assert "nan" not in verdict.sentence
    return verdict.sentence


def test_a_winner_is_named_with_its_lead_interval_and_seeds(tmp_path: Path) -> None:
    runs_of(tmp_path, rnn=RNN, lstm=LSTM, gru=GRU)
    interval = stats.ttest_rel(RNN, LSTM).confidence_interval(0.95)
    # Of the two tests the one with the larger p.
    nearest, lead = max(
        (
            stats.ttest_rel(losses, LSTM).pvalue,
            f"lstm leads {name} by {np.mean(losses) - 0.002:.3g}",
        )
        for name, losses in (("rnn", RNN), ("gru", GRU))
    )
    assert nearest < 0.05
    sentence = sentence_of(tmp_path)
    assert sentence.startswith(f"all runs: lstm wins: {lead} (95% interval ")
    assert sentence.endswith(" over 3 seeds, and it beats the best baseline, constant at 0.25")
    (verdict,) = compare(load(tmp_path)).verdicts
    assert verdict.tests["against"].tolist() == ["gru", "rnn", "baseline constant"]
    row = verdict.tests.set_index("against").loc["rnn"]
    np.testing.assert_allclose(row[["lead", "low", "high"]].tolist(), [0.02, *interval])
    assert row["p"] == pytest.approx(stats.ttest_rel(RNN, LSTM).pvalue)
    assert row["seeds"] == 3


def test_where_the_leads_overlap_nothing_separates(tmp_path: Path) -> None:
    runs_of(tmp_path, rnn=[0.20, 0.22, 0.21], lstm=[0.21, 0.19, 0.20], gru=[0.24, 0.245, 0.243])
    interval = stats.ttest_rel([0.20, 0.22, 0.21], [0.21, 0.19, 0.20]).confidence_interval(0.95)
    low, high = (f"{value:.3g}" for value in interval)
    assert sentence_of(tmp_path) == (
        f"all runs: nothing separates lstm from rnn (lstm leads rnn by 0.01 "
        f"(95% interval {low} to {high}) over 3 seeds)"
    )


def test_the_difference_is_paired_by_seed(tmp_path: Path) -> None:
    """Seeds that differ much more than the models do not hide a steady lead."""
    a, b = [0.02, 0.10, 0.18], [0.03, 0.111, 0.192]
    assert stats.ttest_ind(a, b).pvalue > 0.5
    runs_of(tmp_path, a=a, b=b)
    # Against a baseline that does not go up and down with them three seeds are too few.
    sentence = sentence_of(tmp_path)
    assert "nothing is shown to beat the best baseline, constant at 0.25" in sentence
    assert "nothing separates" not in sentence
    far = with_baselines(tmp_path, constant=0.9, persistence=0.9)
    assert far.startswith("all runs: a wins: a leads b by 0.011 ")


def with_baselines(folder: Path, **baselines: float) -> str:
    """The sentence, were these the baselines of every run."""
    return sentence_of(load(folder).assign(**{f"baseline/{k}": v for k, v in baselines.items()}))


def test_fewer_than_three_seeds_name_no_winner(tmp_path: Path) -> None:
    runs_of(tmp_path, a=[0.01, 0.011], b=[0.2, 0.21])
    assert sentence_of(tmp_path) == (
        "all runs: no verdict: three seeds are needed, and no two contestants share so many"
    )


def test_seeds_that_two_do_not_share_are_left_out_and_so_is_who_has_too_few(tmp_path: Path) -> None:
    """b's best runs are on seeds that a lacks; c, which has one seed, undoes no verdict."""
    runs_of(tmp_path, a=[0.10, 0.11, 0.12], b=[0.13, 0.141, 0.149, 1e-5, 1e-5])
    assert "a leads b by 0.03 " in sentence_of(tmp_path)
    assert sentence_of(tmp_path).count("over 3 seeds") == 1
    made(tmp_path / "c", "c", 10, 4, 0.2)
    assert sentence_of(tmp_path).startswith("all runs: a wins")
    assert sentence_of(tmp_path).endswith("left out, with fewer than three seeds shared with a: c")


def test_the_best_baseline_is_paired_by_seed_and_from_any_run(tmp_path: Path) -> None:
    """The baseline moves with the models, so that a small steady lead over it is shown."""
    baseline = [0.2, 0.24, 0.28]
    for model, lead in (("a", [0.01, 0.0101, 0.0102]), ("b", [0.004, 0.0041, 0.0043])):
        for seed, (of, by) in enumerate(zip(baseline, lead, strict=True)):
            known = {"zero": of, "constant": 0.5} if model == "a" else {}
            made(tmp_path / f"{model}{seed}", model, 10, seed, of - by, baselines=known)
    assert stats.ttest_ind(baseline, np.array(baseline) - 0.01).pvalue > 0.5
    assert "a wins" in sentence_of(tmp_path)
    assert "the best baseline, zero at 0.24" in sentence_of(tmp_path)


def test_where_no_model_beats_the_baseline_nothing_wins(tmp_path: Path) -> None:
    """c has failed and has no baselines; those of the others count."""
    runs_of(tmp_path, c=[math.nan] * 3, a=[0.26, 0.261, 0.262], b=[0.36, 0.362, 0.364])
    assert sentence_of(tmp_path) == (
        "all runs: nothing beats the best baseline, constant at 0.25 (a trails the baseline "
        "constant by 0.011 (95% interval 0.00852 to 0.0135) over 3 seeds); "
        "left out, with fewer than three seeds shared with a: c"
    )


def test_an_exact_or_unknown_baseline_withholds_the_win(tmp_path: Path) -> None:
    runs_of(tmp_path, a=LSTM, b=RNN)
    exact = with_baselines(tmp_path, ar2=1e-30)
    assert exact.startswith("all runs: nothing can win: a baseline, ar2, is exact (a leads b by")
    unknown = with_baselines(tmp_path, constant=math.nan, persistence=math.nan)
    assert unknown.startswith("all runs: no verdict: no baseline is known on every seed")


def test_who_diverged_cannot_win_and_is_named(tmp_path: Path) -> None:
    runs_of(tmp_path, a=[0.001, math.inf, 0.0011], b=RNN)
    made(tmp_path / "a3", "a", 10, 3, math.nan)  # completed, and yet without a loss
    made(tmp_path / "b3", "b", 10, 3, 0.023)
    assert "a diverged on 2 of 4 seeds and cannot win" in sentence_of(tmp_path)
    assert "wins" not in sentence_of(tmp_path)
    for seed in (0, 2):
        made(tmp_path / f"again{seed}", "a", 10, seed, math.inf, status="diverged")
    assert "2 of 4 seeds" in sentence_of(tmp_path)  # what was completed counts, older though it is


def test_who_always_diverged_is_beaten(tmp_path: Path) -> None:
    runs_of(tmp_path, a=[math.inf] * 3, b=RNN)
    sentence = sentence_of(tmp_path)
    assert sentence.startswith("all runs: b wins: b leads the baseline constant by 0.228")
    assert sentence.endswith("a diverged on 3 of 3 seeds and cannot win")
    runs_of(tmp_path / "all", a=[math.inf] * 2, b=[math.inf] * 2)
    assert sentence_of(tmp_path / "all") == (
        "all runs: no verdict: every contestant diverged; "
        "a diverged on 2 of 2 seeds and cannot win; b diverged on 2 of 2 seeds and cannot win"
    )


def test_equal_losses_are_called_equal(tmp_path: Path) -> None:
    runs_of(tmp_path, a=LSTM, b=LSTM)
    assert sentence_of(tmp_path) == (
        "all runs: nothing separates a from b (a and b are equal over 3 seeds)"
    )


def test_the_newest_completed_repeat_counts_and_only_it(tmp_path: Path) -> None:
    runs_of(tmp_path, a=LSTM, b=RNN)
    first, runs = sentence_of(tmp_path), load(tmp_path)
    older = runs.assign(validation=runs["validation"] * 7, ended=runs["ended"] - 60)
    unended = runs.assign(validation=0.0, status="interrupted", ended=runs["ended"] + 60)
    unended = pd.concat([unended, unended.assign(status="unfinished", ended=math.nan)])
    diverged = runs.assign(status="diverged", ended=runs["ended"] + 60)
    together = pd.concat([runs, older, unended, diverged], ignore_index=True)
    assert sentence_of(together) == first
    comparison = compare(together)
    left_out = next(fact for fact in comparison.facts if fact.startswith("left out: "))
    for count in ("12 repeats", "6 interrupted", "6 unfinished"):
        assert count in left_out
    assert comparison.summary["n"].tolist() == [3, 3]
    assert comparison.summary["validation"].tolist() == [np.mean(LSTM), np.mean(RNN)]
    assert "3 interrupted" in comparison.summary["status"][0]
