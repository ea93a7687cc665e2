"""A recurrence without a recurrent matrix: each unit remembers by itself, and for its own time.

B companies, T days, F features a day, K outputs, S state size.
"""

import torch
from torch import Tensor, nn

from statland.models.base import RecurrentModel
from statland.models.stacked import Init
from statland.settings import integer


class Diagonal(RecurrentModel):
    """h_t = sigmoid(a) * h_{t-1} + B x_t, and the prediction C h_t + d."""

    def __init__(self, input_size: int, output_size: int, units: int, init: Init) -> None:
        super().__init__()
        self.state_size = integer("model.units", units, 1)
        self.a = nn.Parameter(torch.empty(units).uniform_(0, 4))
        self.B = nn.Parameter(torch.randn(units, input_size))
        self.C = nn.Parameter(torch.randn(output_size, units) / units)
        self.d = nn.Parameter(torch.zeros(output_size))
        init(self)

    def initial_state(self, batch_size: int) -> Tensor:
        """Zeros (B, S)."""
        return self.a.new_zeros(batch_size, self.state_size)

    def cell(self, x_t: Tensor, state: Tensor) -> Tensor:
        """One day: (B, F), (B, S) -> (B, S)."""
        return self.a.sigmoid() * state + x_t @ self.B.T

    def readout(self, state: Tensor) -> Tensor:
        """The prediction (B, K) of a state (B, S)."""
        return state @ self.C.T + self.d
