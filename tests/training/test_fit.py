"""The training loop: what it yields, clips, skips, and when it gives up."""

import math

import pytest
import torch
from conftest import built
from torch import nn

from statland.batch import Batch
from statland.training.fit import PATIENCE, Diverged, fit, gradient_norm


def test_the_loop_is_plain_gradient_descent() -> None:
    """Against the same steps written out, clipping by PyTorch's own."""
    market, model, optimizer = built("optimizer=sgd", "optimizer.lr=0.1")
    _, twin, _ = built()
    assert all(map(torch.equal, model.parameters(), twin.parameters()))
    clip = 0.5
    norms, clipped = [], 0
    for step in fit(model, market.train_batch, optimizer, 5, clip):
        norms.append(step.gradient_norm)
        clipped += step.clipped
    other = torch.optim.SGD(twin.parameters(), lr=0.1)
    for index in range(5):
        x, lengths, y = market.train_batch(index)
        other.zero_grad()
        nn.functional.mse_loss(twin(x, lengths), y).backward()
        norm = nn.utils.clip_grad_norm_(twin.parameters(), clip)
        assert norms[index] == pytest.approx(norm.item(), rel=1e-5)
        other.step()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    assert 0 < clipped == sum(norm > clip for norm in norms)


def test_it_yields_raw_gradients_before_the_update() -> None:
    market, model, optimizer = built()
    _, twin, _ = built()
    for index, step in enumerate(fit(model, market.train_batch, optimizer, 3, 1e-6)):
        assert step.index == index
        twin.load_state_dict(model.state_dict())
        loss = nn.functional.mse_loss(twin(step.batch.x, step.batch.lengths), step.batch.y)
        gradients = torch.autograd.grad(loss, list(twin.parameters()))
        assert step.loss == loss.item()
        assert step.clipped
        for p, g in zip(model.parameters(), gradients, strict=True):
            assert torch.equal(p.grad, g)
        expected = math.sqrt(sum(g.double().square().sum().item() for g in gradients))
        assert step.gradient_norm == pytest.approx(expected, rel=1e-12)


def test_no_clipping_where_clip_norm_is_none() -> None:
    market, model, optimizer = built("optimizer=sgd", "optimizer.lr=100")
    steps = list(fit(model, market.train_batch, optimizer, 2, None))
    assert not any(step.clipped for step in steps)


@pytest.mark.parametrize("size", [1e20, 1e-30])
def test_the_total_norm_is_right_where_float32_is_not(size: float) -> None:
    parameters = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2))]
    for p in parameters:
        p.grad = torch.full_like(p, size)
    assert gradient_norm(parameters) == pytest.approx(size * math.sqrt(7), rel=1e-6)


class Poisoned(nn.Module):
    """Its loss is not finite on the batches marked by a target of nan."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return self.weight * x[:, 0]


def batches(poisoned: set[int]):
    def train_batch(step: int) -> Batch:
        y = torch.full((2, 1), math.nan if step in poisoned else 0.5)
        return Batch(torch.ones(2, 1, 1), torch.ones(2).long(), y)

    return train_batch


def test_a_gradient_that_is_not_finite_is_never_applied() -> None:
    model = Poisoned()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    seen = []
    for step in fit(model, batches({1, 2, 5}), optimizer, 8, 1.0):
        seen.append((step.skipped, model.weight.item()))
    assert [skipped for skipped, _ in seen] == [i in {1, 2, 5} for i in range(8)]
    assert seen[1][1] == seen[2][1] == seen[3][1] != seen[4][1]
    assert model.weight.isfinite().all()
    assert optimizer.state[model.weight]["step"] == 5


def test_twenty_lost_steps_running_are_a_divergence() -> None:
    def lost_after(poisoned: set[int]) -> int | None:
        model = Poisoned()
        made = 0
        try:
            for _ in fit(model, batches(poisoned), torch.optim.SGD(model.parameters()), 60, None):
                made += 1
        except Diverged:
            return made
        return None

    assert PATIENCE == 20
    assert lost_after(set(range(5, 60))) == 25
    assert lost_after(set(range(5, 24))) is None
    assert lost_after(set(range(60)) - {19, 39, 59}) is None


class Steep(nn.Module):
    """A finite loss whose gradient overflows where asked to."""

    def __init__(self, steep: set[int]) -> None:
        super().__init__()
        self.weight, self.steep, self.made = nn.Parameter(torch.ones(1)), steep, 0

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        factor = 1e30 if self.made in self.steep else 1.0
        self.made += 1
        # Finite at the weight itself; the slope is factor squared.
        return ((self.weight - self.weight.detach()) * factor) * factor + x[:, 0]


def test_an_infinite_gradient_under_a_finite_loss_is_skipped_and_not_clipped() -> None:
    model = Steep({1, *range(3, 40)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen = []
    for step in fit(model, batches(set()), optimizer, 40, 1.0):  # and 37 of them are no divergence
        assert math.isfinite(step.loss)
        seen.append((step.skipped, step.clipped, model.weight.item()))
    assert [skipped for skipped, *_ in seen] == [i in model.steep for i in range(40)]
    assert not any(clipped for skipped, clipped, _ in seen if skipped)
    assert seen[1][2] == seen[2][2]
    assert model.weight.isfinite().all()
