"""Modules from elsewhere, stepped by the models' equations, against their own kernels."""

import pytest
import torch
from torch import nn

from statland.models.bare import Stepped
from statland.models.base import unroll


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_days_are_those_of_the_module(kind: type[nn.RNNBase], bias: bool) -> None:
    module = kind(2, 4, 3, bias=bias).double()
    x = torch.randn(7, 5, 2).double()  # (T, B, F)
    model, expected = Stepped(module), module(x)[0]
    states = unroll(model, x.transpose(0, 1))
    torch.testing.assert_close(states["h"][:, :, -1], expected, rtol=1e-12, atol=1e-14)
    last = {name: days[-1] for name, days in states.items()}
    torch.testing.assert_close(model.readout(last), expected[-1], rtol=1e-12, atol=1e-14)
    assert list(states) == (["h", "c"] if kind is nn.LSTM else ["h"])
