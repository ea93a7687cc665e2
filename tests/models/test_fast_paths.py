"""`forward` computes what the last day reads; `every_day` is the plain form on all days."""

import math

import pytest
import torch
from conftest import built
from torch.testing import assert_close

from statland.models.base import at_last_day


@pytest.mark.parametrize("days", [1, 2, 45, 70])
@pytest.mark.parametrize(
    "overrides",
    [
        ("model=tcn", "model.levels=4", "model.kernel_size=3"),  # sees 61 days
        ("model=tcn", "model.levels=3", "model.kernel_size=6", "model.dropout=0.5"),  # sees 71
        ("model=transformer", "model.num_layers=1"),
        ("model=transformer", "model.num_layers=3"),
        ("model=gated_deltanet", "model.num_layers=2"),
    ],
    ids=" ".join,
)
def test_forward_is_every_day_read_off_at_the_last(overrides: tuple[str, ...], days: int) -> None:
    """Predictions, and the gradients at inputs and parameters; companies differ in age."""
    model = built(*overrides, "data=adding", "data.max_days=70").model.double()
    lengths = torch.tensor([days, 1, (days + 1) // 2, max(1, days - 1), days])
    x = torch.randn(5, days, 2).double().requires_grad_()
    padding = (torch.arange(days) >= lengths[:, None])[..., None]
    found = []
    for is_fast in (True, False):
        torch.manual_seed(1)  # of the dropout, which drops the same channels
        if is_fast:
            prediction = model(x.masked_fill(padding, math.nan), lengths)
        else:
            every_day = model.every_day(x.masked_fill(padding, 0))
            prediction = at_last_day(every_day.transpose(0, 1), lengths)
        leaves = [x, *model.parameters()]
        found.append([prediction, *torch.autograd.grad(prediction.square().sum(), leaves)])
    assert_close(*found, rtol=1e-9, atol=1e-12)
