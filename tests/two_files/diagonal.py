"""A recurrence without a recurrent matrix: each unit remembers by itself, and for its own time.

B companies, F features a day, K outputs, H units.
"""

import torch
from torch import Tensor, nn

from statland.models.base import RecurrentModel, State
from statland.models.stacked import Init
from statland.settings import Size


class Diagonal(RecurrentModel):
    """h_t = sigmoid(a) * h_{t-1} + B x_t, and the prediction C h_t + d."""

    def __init__(self, input_size: int, output_size: int, units: Size, init: Init) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(units).uniform_(0, 4))
        self.B = nn.Parameter(torch.randn(units, input_size))
        self.C = nn.Parameter(torch.randn(output_size, units) / units)
        self.d = nn.Parameter(torch.zeros(output_size))
        init(self)

    def initial_state(self, batch_size: int) -> State:
        """Return zeros (B, H)."""
        return {"h": self.a.new_zeros(batch_size, len(self.a))}

    def cell(self, x_t: Tensor, state: State) -> State:
        """Step by a day, with x_t (B, F)."""
        return {"h": self.a.sigmoid() * state["h"] + x_t @ self.B.T}

    def readout(self, state: State) -> Tensor:
        """Return the prediction (B, K)."""
        return state["h"] @ self.C.T + self.d
