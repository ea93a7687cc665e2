"""The flow of every model of configs/, at every number of layers, from 1 day to 120."""

import pytest
import torch
from conftest import applicable, built

from statland.gradients import gradient_flow
from statland.models.base import RecurrentModel, at_last_day, unroll

LENGTHS = torch.tensor([120, 1, 2, 57, 33, 32])  # 32 days are swept at once


@pytest.mark.parametrize("layers", [1, 3])
def test_flow_to_the_inputs_equals_autograd_through_forward(model_name: str, layers: int) -> None:
    sizes = ("model.hidden_size=6", f"model.num_layers={layers}", "model.num_heads=3")
    overrides = applicable(f"model={model_name}", *sizes)
    if layers > 1 and sizes[1] not in overrides:
        pytest.skip("has no layers to stack")
    model = built(*overrides).model.double().eval()
    x = torch.rand(len(LENGTHS), 120, 1, dtype=torch.float64, requires_grad=True)
    prediction = model(x, LENGTHS)
    (gradient,) = torch.autograd.grad(prediction.sum(), x)
    if isinstance(model, RecurrentModel):
        with torch.no_grad():
            states = unroll(model, x)
            last = {name: at_last_day(days, LENGTHS) for name, days in states.items()}
            torch.testing.assert_close(prediction, model.readout(last), rtol=1e-10, atol=1e-12)
    flow = gradient_flow(model, x, LENGTHS).log10["x"]
    for company, age in enumerate(LENGTHS.tolist()):
        expected = gradient[company, :age, 0].abs().flip(0).log10()
        found = flow[company, :age]
        known = expected > -250  # autograd has no digits left near the end of float64's range
        torch.testing.assert_close(found[known], expected[known], rtol=0, atol=1e-8)
        assert (found[~known] < -240).all()
        assert known[0]
