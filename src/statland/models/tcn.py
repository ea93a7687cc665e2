"""A temporal convolutional network: residual blocks of dilated causal convolutions, no state.

B companies, T days, F features a day, K outputs, C channels.
"""

import math
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, pad
from torch.nn.utils.parametrizations import weight_norm

from statland.models.base import SequenceModel
from statland.settings import Range, Size


class CausalConvolution(nn.Conv1d):
    """A convolution over a day and the days before it, `dilation` apart; nn.Conv1d's weights."""

    def forward(self, x: Tensor, apart: int | None = None, step: int = 1) -> Tensor:
        """Map (B, C, T) to (B, C', T), day t from the days t, t - apart, t - 2 apart, ...

        `apart` is the dilation unless given. Of the result only every `step`-th day is computed,
        counted back from the last.
        """
        (taps,), last, apart = self.kernel_size, x.shape[2] - 1, apart or self.dilation[0]
        seen, weight = min(taps, 1 + last // apart), self.weight
        before = pad(x, ((seen - 1) * apart - last % step, 0))
        if seen < taps:  # taps that lie before the first day on every day only multiply zeros
            weight = weight[..., taps - seen :]
        return conv1d(before, weight, self.bias, stride=step, dilation=apart)


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

    def thinned(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return every second day of the result and of the mask, the last among them.

        The days of x (B, inputs, T) are those that the block convolves, `apart` from each other;
        mask (B, 1, T) is -inf before a company's first day, else 0: relu then gives 0 there.
        """
        first, relu, drop, second, *_ = self.branch
        h = drop(relu(first(x, 1) + mask))
        h = drop(relu(second(h, 1, 2)))
        mask = halved(mask)
        return (self.skip(halved(x)) + h + mask).relu(), mask


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
        self.blocks: Any = nn.Sequential(*blocks)
        self.sees = 1 + 2 * (kernel_size - 1) * (2**levels - 1)
        self.output = nn.Linear(channels, output_size)

    def every_day(self, x: Tensor) -> Tensor:
        """Return predictions on every day (B, T, K), from x (B, T, F)."""
        return self.output(self.blocks(x.transpose(1, 2)).transpose(1, 2))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return predictions (B, K), those of each company's own last day, from x (B, T, F).

        Of the days that a block puts out, the block above reads every second, counted back from the
        last: so its days lie side by side, and nothing else is computed.
        """
        sees = min(x.shape[1], self.sees)
        day = lengths[:, None] - sees + torch.arange(sees, device=x.device)  # ends with the last
        untraded = (day < 0)[:, None]
        z = x.transpose(1, 2).gather(2, day.clamp(0)[:, None].expand(-1, x.shape[2], -1))
        z = z.masked_fill(untraded, 0)
        mask = torch.zeros_like(z[:, :1]).masked_fill(untraded, -math.inf)
        for block in self.blocks:
            z, mask = block.thinned(z, mask)
        return self.output(z[..., -1])


def halved(days: Tensor) -> Tensor:
    """Return every second of the days (..., T), the last among them."""
    return days[..., (days.shape[-1] - 1) % 2 :: 2]
