"""A convolution over the last days: no state, so no feedback loop and nothing to unroll.

B companies, T days, F features a day, K outputs, C channels.
"""

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from statland.models.base import SequenceModel, at_last_day
from statland.settings import Range, Size


class Convolution(SequenceModel):
    """tanh of a causal convolution over `window` days, dropout, and a linear readout."""

    def __init__(
        self,
        input_size: int,
        output_size: int,
        channels: Size,
        window: Size,
        dropout: Annotated[float, Range(0, below=1)],
    ) -> None:
        super().__init__()
        self.window = window
        self.filters = nn.Conv1d(input_size, channels, window)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(channels, output_size)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return predictions (B, K), those of each company's own last day, from x (B, T, F)."""
        days = self.filters(pad(x.transpose(1, 2), (self.window - 1, 0))).tanh()  # (B, C, T)
        return self.linear(self.dropout(at_last_day(days.permute(2, 0, 1), lengths)))


class Plain(nn.Module):
    """The same as a module that knows nothing of the bench, for companies of one age."""

    def __init__(
        self, input_size: int, output_size: int, channels: int, window: int, dropout: float
    ) -> None:
        super().__init__()
        self.inner = Convolution(input_size, output_size, channels, window, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return predictions (B, K) from x (B, T, F)."""
        return self.inner(x, torch.full((len(x),), x.shape[1]))
