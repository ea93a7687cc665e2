"""The tests behind a verdict against scipy's, and how often they err, by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from statland.report.verdicts import judge, paired

DRAWS = 10_000


def drawn(noise: str, rng: np.random.Generator, seeds: int, models: int) -> np.ndarray:
    """Losses (DRAWS, seeds, models) of models that are equal."""
    shape = (DRAWS, seeds, models)
    if noise == "normal":
        return 0.05 + 0.01 * rng.standard_normal(shape)
    if noise == "shared":  # seeds differ more than models do
        return 0.05 + 0.1 * rng.random((DRAWS, seeds, 1)) + 0.01 * rng.standard_normal(shape)
    if noise == "lognormal":
        return 0.02 * np.exp(rng.standard_normal(shape))
    solved = rng.random(shape) < float(noise.removeprefix("solved with chance "))
    return np.where(solved, 0.002, 0.2) * np.exp(0.1 * rng.standard_normal(shape))


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("models", [2, 6])
@pytest.mark.parametrize(
    "noise",
    ["normal", "shared", "lognormal", *(f"solved with chance {c}" for c in (0.1, 0.3, 0.5, 0.9))],
)
def test_equal_models_are_told_apart_in_one_comparison_of_twenty(
    noise: str, models: int, seeds: int
) -> None:
    """The baseline is far above all of them, so that it keeps none from winning."""
    rng = np.random.default_rng([seeds, models, len(noise)])
    losses = drawn(noise, rng, seeds, models)
    baseline = 0.5 + 0.001 * rng.standard_normal((DRAWS, seeds))
    assert (judge(losses, baseline).winner >= 0).mean() <= 0.06


@pytest.mark.parametrize("common", [0.0, 0.05])
def test_a_lead_of_three_deviations_is_found(common: float) -> None:
    """Deviations of the paired difference, over five seeds; `common` is the noise of the seeds."""
    rng = np.random.default_rng(0)
    deviation = 0.01
    losses = 0.5 + common * rng.standard_normal((DRAWS, 5, 1))
    losses = losses + deviation / math.sqrt(2) * rng.standard_normal((DRAWS, 5, 2))
    losses[..., 0] += 3 * deviation
    assert (judge(losses, np.full((DRAWS, 5), 10.0)).winner == 1).mean() >= 0.95


@pytest.mark.parametrize(
    ("seeds", "chance", "missing"), [(3, 0.3, np.inf), (3, 0.5, np.inf), (5, 0.3, np.nan)]
)
def test_missing_by_chance_makes_no_winner(seeds: int, chance: float, missing: float) -> None:
    """Of equal models, whether a run diverged (inf) or was never made (nan)."""
    rng = np.random.default_rng(seeds)
    losses = drawn("normal", rng, seeds, 2)[:1000]
    losses[rng.random(losses.shape) < chance] = missing
    assert (judge(losses, np.full((1000, seeds), 1.0)).winner >= 0).mean() <= 0.06


def test_lead_interval_and_p_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    for seeds in (3, 5, 10):
        losses = rng.standard_normal((seeds, 3))
        baseline = losses.mean(1) + rng.standard_normal(seeds)
        verdict = judge(losses, baseline)
        leader = int(np.argmin(losses.mean(0)))
        assert verdict.leader == leader
        for place, rival in enumerate([*losses.T, baseline]):
            if place != leader:
                oracle = stats.ttest_rel(rival, losses[:, leader])
                interval = oracle.confidence_interval(0.95)
                measured = [field[place] for field in verdict.tests]
                expected = [(rival - losses[:, leader]).mean(), *interval, oracle.pvalue, seeds]
                np.testing.assert_allclose(measured, expected)


def test_the_winner_leads_every_other_and_the_baseline() -> None:
    """Each test alone withholds the win."""
    spread = np.array([0.001, -0.001, 0.0005, -0.0005])
    a, near, far = 0.05 + spread, 0.0502 - spread, 0.08 + 2 * spread
    for columns, baseline, winner in (
        ([a, far], far, 0),
        ([far, far + 0.05 - spread, a], far, 2),
        ([a, near, far], far, -1),
        ([a, far, near], far, -1),
        ([a, far], near, -1),
        ([a, far], a - 0.001 + spread, -1),
        ([a - 0.3, far], np.full(4, 1e-14), -1),  # exact
        ([a, far], np.array([1.0, np.nan, 1.0, 1.0]), -1),  # not known on every seed
    ):
        assert judge(np.stack(columns, 1), baseline).winner == winner


def test_equal_differences_have_no_spread() -> None:
    """t is taken at its limit: nothing where all are 0, and certainty where they are not."""
    none, steady = (paired(np.full((3, 1), lead), np.zeros((3, 1))) for lead in (0.0, 0.25))
    assert (none.lead, none.low, none.high, none.p) == (0, 0, 0, 1)
    assert (steady.lead, steady.low, steady.high, steady.p) == (0.25, 0.25, 0.25, 0)
    nearly = paired(0.25 + np.array([[1e-9], [0], [-1e-9]]), np.zeros((3, 1)))
    assert nearly.p < 1e-12  # which is where the limit comes from
    # A steady lead of the size of rounding is none.
    losses = np.array([0.1, 0.2, 0.3, 0.4])
    for lead, winner in ((0, -1), (1e-7, -1), (1e-4, 0)):
        verdict = judge(np.stack([losses, losses * (1 + lead)], 1), np.full(4, 2.0))
        assert verdict.winner == winner
        assert (verdict.tests.p[1] < 0.05) == (lead > 0)


def test_who_diverged_cannot_win_and_is_beaten_on_the_seeds_that_both_have() -> None:
    """With two of them nothing is shown; how the sentences tell it is in test_sentences.py."""
    b = [0.1, 0.11, 0.12, 0.13]
    for a, winner in (([0.3, 0.32, np.inf, 0.31], 1), ([0.3, np.inf, np.inf, 0.31], -1)):
        assert judge(np.stack([a, b], 1), np.full(4, 1.0)).winner == winner
