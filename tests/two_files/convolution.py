"""A convolution over the last days: no state, so no feedback loop and nothing to unroll.

B companies, T days, F features a day, K outputs, C channels.
"""

from torch import Tensor, nn
from torch.nn.functional import pad

from statland.models.base import SequenceModel, at_last_day
from statland.settings import integer, number


class Convolution(SequenceModel):
    """tanh of a causal convolution over `window` days, dropout, and a linear readout."""

    def __init__(
        self, input_size: int, output_size: int, channels: int, window: int, dropout: float
    ) -> None:
        super().__init__()
        integer("model.channels", channels, 1)
        self.window = integer("model.window", window, 1)
        self.filters = nn.Conv1d(input_size, channels, window)
        self.dropout = nn.Dropout(number("model.dropout", dropout, 0, below=1))
        self.linear = nn.Linear(channels, output_size)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Predictions (B, K) from x (B, T, F): those of each company's own last day."""
        days = self.filters(pad(x.transpose(1, 2), (self.window - 1, 0))).tanh()  # (B, C, T)
        return self.linear(self.dropout(at_last_day(days.permute(2, 0, 1), lengths)))
