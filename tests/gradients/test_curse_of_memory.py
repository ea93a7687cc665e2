"""How strongly a state depends on its recurrent weight, against closed forms, in float64.

h_t = l h_{t-1} + x_t, and g_t = dh_t/dl; inputs k days apart have the covariance rho^k.

N. Zucchet and A. Orvieto, "Recurrent neural networks: vanishing and exploding gradients are not the
end of the story", NeurIPS 2024. Nothing explodes here, and yet as l goes to 1 the state grows as
1 / (1 - l) and its dependence on l as the cube of that: their curse of memory.
"""

import pytest
import torch
from conftest import built
from oracles import scaling

from statland.gradients import weight_flow
from statland.models.base import RecurrentModel

CORRELATIONS = (0.0, 0.5, 0.9)


def of_state(l: float, rho: float) -> float:  # noqa: E741
    """E[h^2] in the long run."""
    return (1 + rho * l) / ((1 - rho * l) * (1 - l**2))


def of_sensitivity(l: float, rho: float) -> float:  # noqa: E741
    """E[g^2] in the long run."""
    above = (1 + l**2) * (1 - l**2 * rho**2) + 2 * (1 - l**2) * l * rho
    return above / ((1 - l**2) ** 3 * (1 - l * rho) ** 2)


@pytest.mark.parametrize(("l", "days"), [(0.5, 60), (0.8, 150)])
def test_the_measured_days_sum_to_the_sensitivity(l: float, days: int) -> None:  # noqa: E741
    """dh/dl is linear in x, so an input of 1 on the first day says how it weighs each day back.

    Companies of every age have that input; what all their days teach, together, is (n - 1) l^(n-2),
    though the flow to the state of n days ago is but l^n.
    """
    ages = torch.arange(1, days + 1)
    x = torch.zeros(days, days, 1, dtype=torch.float64)
    x[:, 0] = 1
    weighs = 10 ** weight_flow(scaling(l), x, ages).summed["step.w"]  # none is below 0
    expected = (ages - 1) * l ** (ages.double() - 2)
    torch.testing.assert_close(weighs, expected, rtol=1e-9, atol=1e-14)
    apart = (ages[:, None] - ages).abs().double()
    for rho in CORRELATIONS:
        found = weighs @ torch.tensor(rho, dtype=torch.float64) ** apart @ weighs
        assert found.item() == pytest.approx(of_sensitivity(l, rho), rel=1e-8)


@pytest.mark.parametrize(("l", "rho"), [(0.5, 0.0), (0.9, 0.9)])
def test_the_preset_measures_the_closed_form(l: float, rho: float) -> None:  # noqa: E741
    """Its unit on its market, within five standard errors of the mean over a thousand companies."""
    market, model, _ = built(
        "experiment=curse",
        f"model.init.recurrent_weight={l}",
        f"data.rho={rho}",
        "data.max_days=200",
        "data.batch_size=1000",
    )
    assert isinstance(model, RecurrentModel)
    x, lengths, _ = market.train_batch(0)
    measured = weight_flow(model, x, lengths)
    squares = 10 ** (2 * measured.summed["recurrence.weight_hh_l0"])
    within = 5 * squares.std().item() / len(squares) ** 0.5
    assert squares.mean().item() == pytest.approx(of_sensitivity(l, rho), abs=within)
    # The weight of the inputs, which is 1, is multiplied by inputs that add up to h.
    by_input = 10 ** (2 * measured.summed["recurrence.weight_ih_l0"])
    within = 5 * by_input.std().item() / len(by_input) ** 0.5
    assert by_input.mean().item() == pytest.approx(of_state(l, rho), abs=within)
