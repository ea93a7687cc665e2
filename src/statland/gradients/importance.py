"""Permutation importance by day: how much a prediction depends on what a day holds.

B companies, T days, F features a day, K outputs, D days that the answer needs.

A day takes the input that another company has on its own such day, and the prediction changes; how
much, against the difference between the predictions for the two companies, is the day's importance.
L. Breiman, "Random forests", Machine Learning 45 (2001); A. Fisher, C. Rudin and F. Dominici, "All
models are wrong, but many are useful", JMLR 20 (2019). No gradient is needed, so it says whether a
model uses a day where the gradient says whether it could learn to.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from statland.gradients.frozen import exact, placed, undisturbed
from statland.models.bare import predict
from statland.models.base import evaluating

MOST_DAYS = 12  # of an answer's days, so many at most are exchanged

# Predictions that differ by less than this share of the targets' differences count as equal.
RESOLUTION = 1e-6

ROWS = 256  # companies that are predicted at once


def importance(
    model: nn.Module,
    x: Tensor,
    answer: Tensor,
    lengths: Tensor | None = None,
    y: Tensor | None = None,
    **given: Any,
) -> float | None:
    """Return the importance of the answer's least important day; None without an answer.

    `answer` (B, T) marks the days that a company's answer needs. The i-th of them takes the input
    of the i-th such day of each other company that has as many. 0: the prediction ignores one of
    the days that it needs. 1: what that day holds counts in full; it may exceed 1. None for a
    single company.

    model, x, which may be token ids, lengths, and, in `given`, `prediction` and `inputs` are those
    of `gradient_flow`. Predictions that differ by a millionth of the differences of the targets
    y (B, K), if not given of their own size, count as equal. Of classes y (B,) predictions are
    logits, compared as probabilities.
    """
    counts = answer.sum(1)
    order = answer.int().argsort(dim=1, descending=True, stable=True)  # the marked days first
    places = list(range(int(counts.max())))
    if len(places) > MOST_DAYS:
        places = torch.linspace(0, len(places) - 1, MOST_DAYS).round().int().tolist()
    days = [(order[:, i], counts.where(counts > i, -1)) for i in places]
    found = [day_importance(model, x, *day, lengths, y, **given) for day in days]
    return min((value for value in found if value is not None), default=None)


def importance_by_lag(
    model: nn.Module, x: Tensor, lag: int, lengths: Tensor, **given: Any
) -> float | None:
    """Return the importance of the day at a lag; None if fewer than two companies are so old."""
    day = lengths - 1 - lag
    group = torch.where(day >= 0, 0, -1)
    return day_importance(model, x, day.clamp(min=0), group, lengths, **given)


@torch.no_grad()
def day_importance(
    model: nn.Module,
    x: Tensor,
    day: Tensor,
    group: Tensor,
    lengths: Tensor | None = None,
    y: Tensor | None = None,
    **given: Any,
) -> float | None:
    """Exchange one day of each company, day (B,), within groups (B,); -1 is no group.

    All pairs of a company and another of its group are formed. The root mean square change of the
    prediction is divided by that of the difference between the two companies' predictions.
    """
    device = next(model.parameters(), x).device
    lengths = torch.full((len(x),), x.shape[1]) if lengths is None else lengths
    x, lengths, given = (placed(value, device) for value in (x, lengths, given))
    day, group, each = day.cpu(), group.cpu(), torch.arange(len(x))
    other = (each + each[1:, None]) % len(x)  # (B - 1, B) one after another each other company
    known = (group[other] == group) & (group >= 0)
    if not known.any():
        return None
    shift, company = known.nonzero().T
    source = other[known]
    exchanged = x.repeat(len(other), *[1] * x.ndim)  # (B - 1, B, T, F)
    exchanged[shift, company, day[company]] = x[source, day[source]]
    # What `prediction` and `inputs` say of companies they say of those of x, in their order.
    classes = y is not None and not y.is_floating_point()
    scaled = (lambda logits: logits.softmax(1)) if classes else (lambda values: values)
    at_once = 1 if given else max(1, ROWS // len(x))
    with evaluating(model), undisturbed(device):
        before, *after = (
            exact(scaled(predict(model, some.flatten(0, 1), lengths.repeat(len(some)), **given)))
            for some in (x[None], *exchanged.split(at_once))
        )
    change = torch.cat(after).unflatten(0, other.shape) - before
    apart = before[other] - before
    known &= ~(change.isnan() | apart.isnan()).any(2)
    if not known.any():
        return None
    if y is not None and not y.is_floating_point():
        y = one_hot(y, before.shape[1])
    targets = (before[other] if y is None else y[other] - y)[known]
    least = RESOLUTION * exact(targets).square().mean().sqrt()
    size = apart[known].square().mean().sqrt().clamp(min=least)
    return (change[known].square().mean().sqrt() / size).nan_to_num(0).item()
