"""How good a forecast is, and what the simplest forecasts make of the same market.

B companies, K outputs.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from statland.batch import Batch
from statland.data.base import EXACT, Market
from statland.models.base import SequenceModel, evaluating

# Training batches on which the constant and the AR(2) are fitted.
FIT_BATCHES = 64


@torch.no_grad()
def evaluate(
    model: SequenceModel, market: Market, batches: Iterable[Batch]
) -> tuple[dict[str, float], list[Tensor]]:
    """Return mse, mae and the market's own scores, and the predictions (B, K) of each batch.

    Without dropout. Errors are summed over companies and divided by their number, so that batches
    may differ in size.
    """
    totals: dict[str, float] = {}
    companies, predictions = 0, []
    for batch in batches:
        with evaluating(model):
            prediction = model(batch.x, batch.lengths)
        error = (prediction - batch.y).double()
        values = {"mse": error.square().mean(1), "mae": error.abs().mean(1)}
        for name, value in (values | market.score(prediction, batch.y)).items():
            totals[name] = totals.get(name, 0.0) + value.sum().item()
        companies += len(batch.y)
        predictions.append(prediction)
    return {name: total / companies for name, total in totals.items()}, predictions


def baselines(market: Market) -> dict[str, float]:
    """Mean squared errors on validation of the simplest forecasts, by name.

    constant: the mean next value. persistence: tomorrow is today, where a day has as many inputs
    as there are outputs. ar2: b + A today + C yesterday by least squares, where yesterday stands
    for itself or, one day old, for today. zero: on markets of returns. What is fitted is fitted on
    training batches.
    """
    _, regressors, y = _last_days([market.train_batch(i) for i in range(FIT_BATCHES)])
    test_today, test_regressors, test_y = _last_days(market.validation())
    forecasts = {"constant": y.mean(0).expand_as(test_y)}
    if test_today.shape == test_y.shape:
        forecasts["persistence"] = test_today
    ar2 = torch.linalg.lstsq(regressors, y, driver="gelsd").solution
    forecasts["ar2"] = test_regressors @ ar2
    if market.forecasts_returns:
        forecasts["zero"] = torch.zeros_like(test_y)
    return {name: (f - test_y).square().mean().item() for name, f in forecasts.items()}


def skill(mse: float, baselines: dict[str, float]) -> float | None:
    """1 - mse / (mse of the best baseline); None where that baseline is exact: none can beat it."""
    best = min(baselines.values())
    return None if best < EXACT else 1 - mse / best


def _last_days(batches: list[Batch]) -> tuple[Tensor, Tensor, Tensor]:
    """Today (companies, F); 1, today, yesterday (companies, 1 + 2F); tomorrow (companies, K)."""
    today, yesterday, tomorrow = [], [], []
    for x, lengths, y in batches:
        each = torch.arange(len(x))
        today.append(x[each, lengths - 1])
        yesterday.append(x[each, (lengths - 2).clamp(min=0)])
        tomorrow.append(y)
    now, before, y = (torch.cat(parts).double() for parts in (today, yesterday, tomorrow))
    return now, torch.cat([torch.ones_like(now[:, :1]), now, before], dim=1), y
