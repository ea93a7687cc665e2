"""How good a forecast is, and what the simplest forecasts make of the same market.

B companies, K outputs.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from statland.batch import Batch
from statland.data.base import Market
from statland.models.base import SequenceModel

# Training batches on which the constant and the AR(2) are fitted.
FIT_BATCHES = 64

# A baseline whose mean squared error is below this is exact, rounding apart.
EXACT = 1e-12


@torch.no_grad()
def evaluate(
    model: SequenceModel, market: Market, batches: Iterable[Batch]
) -> tuple[dict[str, float], list[Tensor]]:
    """Return mse, mae and the market's own scores, and the predictions (B, K) of each batch.

    Errors are summed over companies and divided by their number, so that batches may differ in
    size.
    """
    totals: dict[str, float] = {}
    companies, predictions = 0, []
    for batch in batches:
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

    constant: the mean next value. persistence: tomorrow is today. ar2: a + b today + c yesterday
    by least squares, where yesterday stands for itself or, one day old, for today. zero: on
    markets of returns. What is fitted is fitted on training batches.
    """
    today, yesterday, y = _last_two_days([market.train_batch(i) for i in range(FIT_BATCHES)])
    test_today, test_yesterday, test_y = _last_two_days(market.validation())
    ar2 = torch.linalg.lstsq(_regressors(today, yesterday), y, driver="gelsd").solution
    forecasts = {
        "constant": y.mean(0).expand_as(test_y),
        "persistence": test_today,
        "ar2": _regressors(test_today, test_yesterday) @ ar2,
    }
    if market.forecasts_returns:
        forecasts["zero"] = torch.zeros_like(test_y)
    return {name: (f - test_y).square().mean().item() for name, f in forecasts.items()}


def skill(mse: float, baselines: dict[str, float]) -> float | None:
    """1 - mse / (mse of the best baseline); None where that baseline is exact: none can beat it."""
    best = min(baselines.values())
    return None if best < EXACT else 1 - mse / best


def _last_two_days(batches: list[Batch]) -> tuple[Tensor, Tensor, Tensor]:
    """Today, yesterday and tomorrow of every company, each (companies, K) in float64.

    A day's first K features are the values that are to be foretold.
    """
    days: tuple[list[Tensor], ...] = ([], [], [])
    for x, lengths, y in batches:
        each, outputs = torch.arange(len(x)), y.shape[1]
        days[0].append(x[each, lengths - 1, :outputs])
        days[1].append(x[each, (lengths - 2).clamp(min=0), :outputs])
        days[2].append(y)
    return tuple(torch.cat(day).double() for day in days)


def _regressors(today: Tensor, yesterday: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(today[:, :1]), today, yesterday], dim=1)
