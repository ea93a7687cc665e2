"""A temporal convolutional network: residual blocks of dilated causal convolutions, no state.

B companies, T days, F features a day, K outputs, C channels.
"""

from typing import Annotated

from torch import Tensor, nn
from torch.nn.functional import conv1d, pad
from torch.nn.utils.parametrizations import weight_norm

from statland.models.base import SequenceModel, at_last_day
from statland.settings import Range, Size


class CausalConvolution(nn.Conv1d):
    """A convolution over a day and the days before it, `dilation` apart; nn.Conv1d's weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to (B, C', T), day t from the days t, t - dilation, t - 2 dilation, ..."""
        (apart,), (taps,) = self.dilation, self.kernel_size
        # Taps that lie before the first day on every day only multiply zeros.
        seen = min(taps, 1 + (x.shape[2] - 1) // apart)
        before = pad(x, ((seen - 1) * apart, 0))
        return conv1d(before, self.weight[..., taps - seen :], self.bias, dilation=apart)


class TemporalBlock(nn.Module):
    """relu(x + F(x)), where F is twice a causal convolution with weight norm, ReLU and dropout.

    If x and F(x) differ in their number of channels, a convolution over one day maps x.
    """

    def __init__(self, inputs: int, channels: int, taps: int, apart: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in (inputs, channels):
            convolution = CausalConvolution(width, channels, taps, dilation=apart)
            # Dropout1d drops whole channels, as the paper does.
            layers += [weight_norm(convolution), nn.ReLU(), nn.Dropout1d(dropout)]
        self.branch = nn.Sequential(*layers)
        self.skip = nn.Identity() if inputs == channels else nn.Conv1d(inputs, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, T) to (B, channels, T)."""
        return (self.skip(x) + self.branch(x)).relu()


class TCN(SequenceModel):
    """`levels` temporal blocks, the days of the i-th 2^i apart, and a linear readout.

    z^0 = x,  z^{i+1} = relu(z^i + F_i(z^i)),  the prediction is C z_T + d

    With kernel size k and n levels a prediction depends on the last 1 + 2 (k - 1) (2^n - 1) days:
    the flow to earlier days is an exact 0.

    S. Bai, J. Z. Kolter and V. Koltun, "An empirical evaluation of generic convolutional and
    recurrent networks for sequence modeling", arXiv:1803.01271 (2018).
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        channels: Size,
        levels: Annotated[int, Range(1, 30)],  # 2^30 days are more than any history
        kernel_size: Annotated[int, Range(1, 2**10)],
        dropout: Annotated[float, Range(0, below=1)],
    ) -> None:
        super().__init__()
        blocks = (
            TemporalBlock(channels if i else input_size, channels, kernel_size, 2**i, dropout)
            for i in range(levels)
        )
        self.blocks = nn.Sequential(*blocks)
        self.output = nn.Linear(channels, output_size)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return predictions (B, K), those of each company's own last day, from x (B, T, F)."""
        days = self.blocks(x.transpose(1, 2))  # (B, C, T)
        return self.output(at_last_day(days.permute(2, 0, 1), lengths))
