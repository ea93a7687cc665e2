"""A temporal convolutional network: residual blocks of dilated causal convolutions, no state.

B companies, T days, F features a day, K outputs, C channels.
"""

from torch import Tensor, nn
from torch.nn.functional import conv1d, pad
from torch.nn.utils.parametrizations import weight_norm

from statland.models.base import SequenceModel, at_last_day, check_weights
from statland.settings import integer, number


class CausalConvolution(nn.Conv1d):
    """A convolution over a day and the days before it, `dilation` apart; nn.Conv1d's weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to (B, C', T), day t from the days t, t - dilation, t - 2 dilation, ..."""
        (apart,), (taps,) = self.dilation, self.kernel_size
        # Taps that lie before the first day on every day would only multiply zeros.
        seen = min(taps, 1 + (x.shape[2] - 1) // apart)
        before = pad(x, ((seen - 1) * apart, 0))
        return conv1d(before, self.weight[..., taps - seen :], self.bias, dilation=apart)


class TemporalBlock(nn.Module):
    """relu(x + F(x)), where F is twice a causal convolution with weight norm, ReLU and dropout.

    Where x has other channels than F(x), a convolution over one day maps them.
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

    With kernel size k and n levels a prediction sees 1 + 2 (k - 1) (2^n - 1) days and nothing of
    what lies before them: the flow there is an exact 0.

    S. Bai, J. Z. Kolter and V. Koltun, "An empirical evaluation of generic convolutional and
    recurrent networks for sequence modeling", arXiv:1803.01271 (2018).
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        channels: int,
        levels: int,
        kernel_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        integer("model.channels", channels, 1, 2**14)
        integer("model.levels", levels, 1, 30)  # 2^30 days are more than any history
        integer("model.kernel_size", kernel_size, 1, 2**14)
        number("model.dropout", dropout, 0, below=1)
        check_weights(
            f"model.levels {levels} of model.channels {channels} and model.kernel_size "
            f"{kernel_size} are",
            2 * levels * channels**2 * kernel_size,
        )
        self.blocks = nn.Sequential(
            *(
                TemporalBlock(channels if i else input_size, channels, kernel_size, 2**i, dropout)
                for i in range(levels)
            )
        )
        self.output = nn.Linear(channels, output_size)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Predictions (B, K) from x (B, T, F): those of each company's own last day."""
        days = self.blocks(x.transpose(1, 2))  # (B, C, T)
        return self.output(at_last_day(days.permute(2, 0, 1), lengths))
