"""Permutation importance by day: how much a prediction depends on what a day holds.

B companies, T days, F features a day, K outputs, D days that the answer needs.

A day takes the input that another company has on its own such day, and the prediction changes; how
much, against the difference between the predictions for the two companies, is the day's importance.
L. Breiman, "Random forests", Machine Learning 45 (2001); A. Fisher, C. Rudin and F. Dominici, "All
models are wrong, but many are useful", JMLR 20 (2019). No gradient is needed, so it says whether a
model uses a day where the gradient says whether it could learn to.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from statland.batch import Batch
from statland.models.base import SequenceModel, evaluating

MOST_DAYS = 12  # of an answer's days, so many at most are exchanged

# Predictions that differ by less than this share of the targets' differences count as equal.
RESOLUTION = 1e-6


def answer_importance(model: SequenceModel, batch: Batch, answer: Tensor) -> float | None:
    """Return the importance of the answer's least important day; None without an answer.

    `answer` (B, T) marks the days that a company's answer needs. The i-th of them takes the input
    of the i-th such day of each other company that has as many. 0: the prediction ignores one of
    the days that it needs. 1: what that day holds counts in full; it may exceed 1. None for a
    single company.
    """
    counts = answer.sum(1)
    order = answer.int().argsort(dim=1, descending=True, stable=True)  # the marked days first
    places = list(range(int(counts.max())))
    if len(places) > MOST_DAYS:
        places = torch.linspace(0, len(places) - 1, MOST_DAYS).round().int().tolist()
    found = [
        day_importance(model, batch, order[:, i], counts.where(counts > i, -1)) for i in places
    ]
    known = [value for value in found if value is not None]
    return min(known, default=None)


def importance_by_lag(model: SequenceModel, batch: Batch, lag: int) -> float | None:
    """Return the importance of the day at a lag; None if fewer than two companies are so old."""
    day = batch.lengths - 1 - lag
    return day_importance(model, batch, day.clamp(min=0), torch.where(day >= 0, 0, -1))


@torch.no_grad()
def day_importance(model: SequenceModel, batch: Batch, day: Tensor, group: Tensor) -> float | None:
    """Exchange one day of each company, day (B,), within groups (B,); -1 is no group.

    All pairs of a company and another of its group are formed. The root mean square change of the
    prediction is divided by that of the difference between the two companies' predictions.
    """
    one, other = ((group[:, None] == group) & (group >= 0)).fill_diagonal_(False).nonzero().T
    if not len(one):
        return None
    x = batch.x[one].clone()
    pairs = torch.arange(len(one))
    x[pairs, day[one]] = batch.x[other, day[other]]
    with evaluating(model):
        before = model(batch.x, batch.lengths).double()
        after = torch.cat(
            [model(*part) for part in zip(x.split(256), batch.lengths[one].split(256), strict=True)]
        ).double()
    targets = batch.y
    if batch.has_classes:  # as probabilities
        targets = one_hot(targets, before.shape[1])
        before, after = before.softmax(1), after.softmax(1)
    change, apart = after - before[one], before[other] - before[one]
    known = ~(change.isnan() | apart.isnan()).any(1)
    if not known.any():
        return None
    between = (targets[other] - targets[one]).double()
    least = RESOLUTION * between.square().mean().sqrt()
    size = apart[known].square().mean().sqrt().clamp(min=least)
    return (change[known].square().mean().sqrt() / size).nan_to_num(0).item()
