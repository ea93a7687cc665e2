"""How good a forecast is, and what the simplest forecasts make of the same market.

B companies, T days, K outputs, N answers.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from statland.batch import Batch, loss
from statland.data.base import EXACT, Market
from statland.models.base import SequenceModel, evaluating, predict_answers

# Training batches on which the constant and the AR(2) are fitted.
FIT_BATCHES = 64


@torch.no_grad()
def evaluate(model: SequenceModel, market: Market, batches: Iterable[Batch]) -> dict[str, float]:
    """Return the loss and the scores of a model, without dropout: means over all answers.

    mse, mae and the market's own scores; or cross_entropy and accuracy and, where every day is
    asked, sequence_accuracy: the share of companies all of whose answers are right.
    """
    totals: dict[str, float] = {}
    counts: dict[str, int] = {}
    for batch in batches:
        with evaluating(model):
            prediction = predict_answers(model, batch)
        score = _scores_of_classes if batch.has_classes else _scores_of_numbers
        scores = score(prediction, batch) | market.score(prediction, batch.answers)
        for name, value in scores.items():
            totals[name] = totals.get(name, 0.0) + value.sum().item()
            counts[name] = counts.get(name, 0) + len(value)
    return {name: total / counts[name] for name, total in totals.items()}


def _scores_of_numbers(prediction: Tensor, batch: Batch) -> dict[str, Tensor]:
    error = (prediction - batch.answers).double()
    return {"mse": error.square().mean(1), "mae": error.abs().mean(1)}


def _scores_of_classes(prediction: Tensor, batch: Batch) -> dict[str, Tensor]:
    y = batch.answers
    right = (prediction.argmax(1) == y).double().where(~prediction.isnan().any(1), torch.nan)
    scores = {"cross_entropy": loss(prediction.double(), y, "none"), "accuracy": right}
    if batch.asks_every_day:
        by_day = torch.ones_like(batch.y, dtype=right.dtype)
        by_day[batch.asked] = right
        scores["sequence_accuracy"] = by_day.amin(1)  # nan where one is
    return scores


def baselines(market: Market) -> dict[str, float]:
    """Losses on validation of the simplest forecasts, by name, and of those the market knows.

    Of numbers: constant, the mean next value. persistence: tomorrow is today, where a day has as
    many inputs as there are outputs. ar2: b + A today + C yesterday by least squares, where
    yesterday stands for itself or, one day old, for today. zero: on markets of returns. Of classes:
    constant, the probabilities (n + 1) / (N + K) of classes seen n times among N. What is fitted is
    fitted on training batches.
    """
    fitted = [market.train_batch(i) for i in range(FIT_BATCHES)]
    if market.loss == "cross_entropy":
        y = torch.cat([batch.answers for batch in fitted])
        seen = y.bincount(minlength=market.output_size).double() + 1
        asked = torch.cat([batch.answers for batch in market.validation()])
        return {"constant": -(seen / seen.sum()).log()[asked].mean().item(), **market.baselines()}
    _, regressors, y = _last_days(fitted)
    test_today, test_regressors, test_y = _last_days(market.validation())
    forecasts = {"constant": y.mean(0).expand_as(test_y)}
    if test_today.shape == test_y.shape:
        forecasts["persistence"] = test_today
    ar2 = torch.linalg.lstsq(regressors, y, driver="gelsd").solution
    forecasts["ar2"] = test_regressors @ ar2
    if market.forecasts_returns:
        forecasts["zero"] = torch.zeros_like(test_y)
    losses = {name: (f - test_y).square().mean().item() for name, f in forecasts.items()}
    return losses | market.baselines()


def skill(achieved: float, baselines: dict[str, float]) -> float | None:
    """1 - loss / (that of the best baseline); None where that one is exact: none can beat it."""
    best = min(baselines.values())
    return None if best < EXACT else 1 - achieved / best


def _last_days(batches: list[Batch]) -> tuple[Tensor, Tensor, Tensor]:
    """Of N answers: today (N, F); 1, today, yesterday (N, 1 + 2F); tomorrow (N, K)."""
    today, yesterday, tomorrow = [], [], []
    for batch in batches:
        company, day = batch.asked.nonzero(as_tuple=True)
        today.append(batch.x[company, day])
        yesterday.append(batch.x[company, (day - 1).clamp(min=0)])
        tomorrow.append(batch.answers)
    now, before, y = (torch.cat(parts).double() for parts in (today, yesterday, tomorrow))
    return now, torch.cat([torch.ones_like(now[:, :1]), now, before], dim=1), y
