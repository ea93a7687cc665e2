"""The temporal convolutional network: where its flow ends, and what its blocks compute."""

import math

import pytest
import torch
from conftest import built
from torch import nn

from statland.gradients import gradient_flow
from statland.models.tcn import TCN, CausalConvolution


@pytest.mark.parametrize(("levels", "kernel"), [(1, 2), (3, 3), (5, 1)])
def test_the_flow_ends_at_the_receptive_field(levels: int, kernel: int) -> None:
    """Finite within 1 + 2 (k - 1) (2^n - 1) days, exactly 0 beyond; on older and younger ones."""
    sees = 1 + 2 * (kernel - 1) * (2**levels - 1)
    model = TCN(2, 1, 16, levels, kernel, 0.3)
    x, lengths = torch.randn(3, sees + 9, 2), torch.tensor([sees + 9, sees, (sees + 1) // 2])
    log10 = gradient_flow(model, x, lengths).log10["x"]
    for company, age in enumerate(lengths.tolist()):
        assert log10[company, : min(sees, age)].isfinite().all()
        assert (log10[company, sees:age] == -math.inf).all()
    # The flow is that of the values: beyond the field a change is not seen, at its end it is.
    model = model.double().eval()
    with torch.no_grad():
        before = model(x.double(), lengths)[0]
        for lag, is_seen in ((sees - 1, True), (sees, False)):
            changed = x.double()
            changed[0, -1 - lag] += 1
            assert (model(changed, lengths)[0] != before).any() == is_seen


@pytest.mark.parametrize("days", [1, 8, 40])
def test_a_causal_convolution_is_that_of_a_history_after_zeros(days: int) -> None:
    """Also where taps lie before the first day, which are left out."""
    ours = CausalConvolution(3, 5, 4, dilation=4).double()
    x = torch.randn(2, 3, days).double()
    padded = nn.functional.pad(x, (3 * 4, 0))
    expected = nn.functional.conv1d(padded, ours.weight, ours.bias, dilation=4)
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-14)


def test_one_block_by_the_paper_s_equation() -> None:
    """weight_norm is g v / ||v||, a norm for each output channel; x is mapped by W1."""
    model = TCN(2, 1, 3, 1, 2, 0.0).double()
    block, x = model.blocks[0], torch.randn(1, 4, 2).double()
    z = x[0]  # (T, C)
    for place in (0, 3):
        convolution = block.branch[place]
        normed = convolution.parametrizations.weight
        g, v = normed.original0, normed.original1
        with torch.no_grad():
            g.mul_(1.7)
        w = g * v / v.square().sum((1, 2), keepdim=True).sqrt()
        before = torch.cat([torch.zeros_like(z[:1]), z[:-1]])
        z = (before @ w[..., 0].T + z @ w[..., 1].T + convolution.bias).relu()
    top = (z + x[0] @ block.skip.weight[..., 0].T + block.skip.bias).relu()
    expected = model.output(top[-1:])
    torch.testing.assert_close(model(x, torch.tensor([4])), expected, rtol=1e-12, atol=0)


def test_a_dilation_beyond_every_history_costs_nothing() -> None:
    """30 levels reach 2^29 days apart; on 20 days most see today alone."""
    model, x = TCN(1, 1, 4, 30, 3, 0.0), torch.randn(2, 20, 1)
    assert gradient_flow(model, x).log10["x"].isfinite().all()


def test_dropout_drops_channels_in_training_alone() -> None:
    torch.manual_seed(0)
    _, model, _ = built("model=tcn", "model.dropout=0.5", "model.levels=2", "model.channels=8")
    dropped = model.blocks[0].branch[:3](torch.randn(1, 1, 30))[0]  # (C, T)
    without = model.eval().blocks[0].branch[:3](torch.randn(1, 1, 30))[0]
    assert 0 < (dropped == 0).all(1).sum() < 8
    assert not (without == 0).all(1).any()
