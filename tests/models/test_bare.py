"""Modules from elsewhere, stepped by the models' equations, against their own kernels."""

import pytest
import torch
from torch import nn

from statland.models.bare import Recurrence, Stepped
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


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_a_step_is_that_of_the_cell(kind: type[nn.RNNCellBase]) -> None:
    cell, x_t, h = kind(2, 4, bias=False).double(), torch.randn(5, 2), torch.randn(5, 4)
    x_t, h = x_t.double(), h.double()
    state = (h, h.flip(0)) if kind is nn.LSTMCell else h
    model = Recurrence(cell, initial=(h[0], h[0]) if kind is nn.LSTMCell else h[0])
    after = model.cell(x_t, dict(zip("01", state if kind is nn.LSTMCell else (h,), strict=False)))
    expected = cell(x_t, state)
    expected = expected if kind is nn.LSTMCell else (expected,)
    torch.testing.assert_close(tuple(after.values()), expected, rtol=1e-12, atol=1e-14)
