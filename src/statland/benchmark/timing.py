"""Timing: medians of repeated runs, taken in turns, so that a noisy machine disturbs all alike."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import torch
from torch import nn

from statland.batch import Batch


def ragged(days: int, companies: int, youngest: int) -> Batch:
    """Random histories of youngest to `days` days."""
    lengths = torch.linspace(youngest, days, companies).round().long()
    return Batch(torch.randn(companies, days, 1), lengths, torch.randn(companies, 1))


def both_ways(model: nn.Module, batch: Batch) -> Callable[[], None]:
    """Forward and backward of one batch."""

    def step() -> None:
        model.zero_grad()
        nn.functional.mse_loss(model(batch.x, batch.lengths), batch.y).backward()

    return step


def medians(steps: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Median milliseconds of each, timed in turns for about so many seconds in all."""
    for step in steps.values():
        step()
    ms: dict[str, list[float]] = {name: [] for name in steps}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(ms[next(iter(ms))]) < 5:
        for name, step in steps.items():
            ms[name].append(timed(step))
    return {name: statistics.median(values) for name, values in ms.items()}


def timed(step: Callable[[], Any]) -> float:
    """Milliseconds that one call takes."""
    start = time.perf_counter()
    step()
    return (time.perf_counter() - start) * 1e3


def geometric_mean(values: pd.Series) -> float:
    """The mean that suits ratios."""
    return math.exp(sum(math.log(value) for value in values) / len(values))
