"""Which contestant wins on a market, by paired tests: the statistics alone.

S seeds, C contestants. Leading dimensions, as of many simulated comparisons, may come before them.
"""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from statland.data.base import EXACT

LEVEL = 0.05

# Seeds that a test needs. On two, equal models that solve a market every other time differ clearly
# in one comparison of eight.
SEEDS = 3

# A lead below this share of the leader's loss is rounding: a recurrence written by hand and nn.RNN,
# with the same weights, differ by 6e-7 of their loss after 60 steps in float32.
RESOLUTION = 1e-5


class Tests(NamedTuple):
    """Student's t-tests of paired differences: each field (..., R), one value per rival."""

    lead: np.ndarray  # the mean difference
    low: np.ndarray  # 95% interval of the lead
    high: np.ndarray
    p: np.ndarray  # two-sided
    seeds: np.ndarray  # how many pairs are finite


class Verdict(NamedTuple):
    """Who leads, and the leader's test against each of C contestants and the baseline."""

    leader: np.ndarray  # (...) -1 where nobody can lead
    winner: np.ndarray  # (...) the leader where it wins, else -1
    tests: Tests  # each field (..., C + 1)
    beaten: np.ndarray  # (..., C + 1) whether the lead is shown
    diverged: np.ndarray  # (..., C) on how many seeds
    left_out: np.ndarray  # (..., C) shares fewer than three seeds with the leader


def paired(rivals: ArrayLike, own: ArrayLike) -> Tests:
    """Test whether the mean of `rivals` (..., S, R) differs from that of `own` (..., S, 1).

    Pairs that are not finite are left out. Without spread p is 1 if all pairs are equal, else 0.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tests without spread, or without pairs
        differences = np.asarray(rivals, dtype=float) - np.asarray(own, dtype=float)
        differences = np.where(np.isfinite(differences), differences, np.nan)
        found = stats.ttest_1samp(differences, 0.0, axis=-2, nan_policy="omit")
        low, high = found.confidence_interval(1 - LEVEL)
        lead = np.nanmean(differences, axis=-2)
    p = np.where(lead == 0, 1.0, found.pvalue)
    return Tests(lead, np.asarray(low), np.asarray(high), p, np.isfinite(differences).sum(-2))


def judge(losses: ArrayLike, baseline: ArrayLike) -> Verdict:
    """Decide who wins, by losses (..., S, C) and those of the best baseline (..., S), by seed.

    A loss is nan where a contestant lacks a seed, and inf where its run diverged. Contestants are
    compared on the seeds that they share, three at least. The leader is the contestant that never
    diverged whose smallest lead over another of these is largest. It wins where a paired t-test,
    two-sided at 5%, shows its lead over every rival and over the baseline. All tests must agree
    (an intersection-union test, Berger 1982), so their number needs no correction. A rival that
    diverged on every seed is beaten without a test. A baseline that is exact, or not known (nan),
    cannot be beaten.
    """
    losses, baseline = np.asarray(losses, dtype=float), np.asarray(baseline, dtype=float)
    has_run = ~np.isnan(losses)
    diverged = (has_run & ~np.isfinite(losses)).sum(-2)
    shared = np.swapaxes(has_run, -1, -2).astype(int) @ has_run  # (..., C, C) seeds
    leader = _leader(losses, shared, diverged)
    own = np.take_along_axis(losses, leader[..., None, None], -1)
    tests = paired(np.concatenate([losses, baseline[..., None]], -1), own)
    known = np.isfinite(own)
    size = np.where(known, own, 0.0).sum(-2) / known.sum(-2).clip(min=1)  # of the leader's loss
    beaten = (tests.lead > RESOLUTION * size) & (tests.p < LEVEL) & (tests.seeds >= SEEDS)
    beaten[..., :-1] |= diverged == has_run.sum(-2)
    beaten[..., -1] &= baseline.sum(-1) >= EXACT * baseline.shape[-1]
    left_out = np.take_along_axis(shared, leader[..., None, None], -2)[..., 0, :] < SEEDS
    excused = left_out | (np.arange(losses.shape[-1]) == leader[..., None])
    wins = (beaten[..., :-1] | excused).all(-1) & beaten[..., -1] & (leader >= 0)
    return Verdict(leader, np.where(wins, leader, -1), tests, beaten, diverged, left_out)


def _leader(losses: np.ndarray, shared: np.ndarray, diverged: np.ndarray) -> np.ndarray:
    """The leader (...), or -1, given the seeds (..., C, C) that contestants share."""
    healthy = diverged == 0
    comparable = (shared >= SEEDS) & ~np.eye(losses.shape[-1], dtype=bool)
    finite = np.where(np.isfinite(losses), losses, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pairs that share no seed
        leads = np.nanmean(finite[..., None, :] - finite[..., None], axis=-3)
    smallest = np.where(comparable & healthy[..., None, :], leads, np.inf).min(-1)
    smallest = np.where(healthy & comparable.any(-1), smallest, -np.inf)
    return np.where(smallest.max(-1) > -np.inf, smallest.argmax(-1), -1)
