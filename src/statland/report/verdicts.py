"""Which contestant wins on a market, by paired tests: the statistics alone.

S seeds, C contestants. Leading dimensions, as of many simulated comparisons, may come before them.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from statland.data.base import EXACT
from statland.records.results import SOLVED

LEVEL = 0.05

# A lead below this share of the leader's loss is rounding: a recurrence written by hand and nn.RNN,
# with the same weights, differ by 6e-7 of their loss after 60 steps in float32.
RESOLUTION = 1e-5

# Where one contestant always solves the market and another never does, or always diverges, t sees
# hardly any spread. But equal models, which solve it every other time, differ so on two seeds in
# one comparison of eight (2/16), on three in one of 32.
SEEDS_FOR_SOLVED_OR_NOT = 3

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Paired(NamedTuple):
    """Student's t of paired differences: each field (...), a value a test."""

    lead: Floats  # the mean difference over the pairs that are finite
    low: Floats  # 95% interval of the lead
    high: Floats
    p: Floats  # two-sided; nan where fewer than two pairs are finite
    seeds: NDArray[np.int64]  # how many pairs are finite


class Verdict(NamedTuple):
    """Who leads, and each test of the leader: C contestants, then the baseline."""

    leader: NDArray[np.int64]  # (...) the lowest mean loss among those that never diverged
    winner: NDArray[np.int64]  # (...) the leader where it wins, else -1
    tests: Paired  # each field (..., C + 1); of the leader against itself all is 0, and p 1
    beaten: Bools  # (..., C + 1) the leader's lead is shown
    diverged: NDArray[np.int64]  # (..., C) on how many seeds
    too_few: Bools  # (..., C) solved or not, diverged or not, and on fewer than three seeds


def paired(differences: ArrayLike) -> Paired:
    """Test the differences (..., S) for a mean of 0; pairs that are not finite are left out.

    Where all are equal t has no spread to go by. It is taken at its limit: p is 1 if they are 0,
    else 0, and the interval is the lead itself.
    """
    differences = np.asarray(differences, dtype=float)
    finite = np.isfinite(differences)
    seeds = finite.sum(-1)
    known = np.where(finite, differences, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        lead = known.sum(-1) / seeds
        deviations = np.where(finite, known - lead[..., None], 0.0)
        error = np.sqrt((deviations**2).sum(-1) / (seeds - 1) / seeds)
        t = np.where(lead == 0, 0.0, np.abs(lead) / error)
    freedom = np.maximum(seeds - 1, 1)
    p = np.where(seeds < 2, np.nan, 2 * stats.t.sf(t, freedom))
    half = np.where(seeds < 2, np.nan, stats.t.ppf(1 - LEVEL / 2, freedom) * error)
    return Paired(lead, lead - half, lead + half, p, seeds)


def judge(losses: ArrayLike, baseline: ArrayLike) -> Verdict:
    """Who wins, by losses (..., S, C) of the same seeds, and the best baseline's losses (..., S).

    The contestant of the lowest mean loss leads. It wins where a paired Student's t, two-sided at
    5%, shows its lead over every other contestant and over the baseline. That all tests must say so
    (an intersection-union test, Berger 1982) needs no correction for their number. A loss that is
    not finite stands for a run that diverged: that contestant cannot win, and the leader is tested
    against it over its other seeds; one that always diverged is beaten without a test. Where one
    always solves the market and the other never does, or always diverges, three seeds are needed.
    A lead of the size of rounding is none. An exact baseline cannot be beaten, nor one that is not
    known (nan).
    """
    losses, baseline = np.asarray(losses, dtype=float), np.asarray(baseline, dtype=float)
    finite = np.isfinite(losses)
    diverged = (~finite).sum(-2)
    means = np.where(diverged == 0, np.where(finite, losses, 0.0).mean(-2), np.inf)
    leader = means.argmin(-1)
    own = np.take_along_axis(losses, leader[..., None, None], -1)
    rivals = np.concatenate([losses, baseline[..., None]], -1)
    known = np.isfinite(rivals) & np.isfinite(own)
    differences = np.where(known, np.where(known, rivals, 0) - np.where(known, own, 0), np.nan)
    tests = paired(np.swapaxes(differences, -1, -2))
    beaten = (tests.lead > RESOLUTION * own.mean(-2)) & (tests.p < LEVEL)
    seeds = losses.shape[-2]
    solved, own_solved = (some < SOLVED * baseline[..., None] for some in (losses, own))
    lost = diverged == seeds
    too_few = (own_solved.all(-2) & ~solved.any(-2)) | lost
    too_few &= seeds < SEEDS_FOR_SOLVED_OR_NOT
    beaten[..., :-1] = (beaten[..., :-1] | lost) & ~too_few
    beaten[..., -1] &= baseline.mean(-1) >= EXACT
    leads = np.arange(losses.shape[-1] + 1) == leader[..., None]
    wins = (beaten | leads).all(-1) & np.isfinite(means.min(-1)) & (seeds > 1)
    return Verdict(leader, np.where(wins, leader, -1), tests, beaten, diverged, too_few)
