"""The linear recurrent unit: a diagonal, complex recurrence within the unit circle.

B companies, T days, F features a day, K outputs, H hidden units, N modes per layer, L layers.
Complex numbers are kept as pairs: (..., N, 2) are N real and imaginary parts.
"""

import math
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from statland.models.activation import gelu, sigmoid
from statland.models.base import State, at_last_day
from statland.models.linear_recurrence import linear_recurrence
from statland.models.stacked import LayeredModel
from statland.settings import Count, Range, SettingError, Size


class LRUBlock(nn.Module):
    """One block: norm, recurrence, GLU, skip. `LRU` has the equations."""

    def __init__(
        self, hidden_size: int, modes: int, r_min: float, r_max: float, max_phase: float
    ) -> None:
        super().__init__()
        # lambda evenly over the ring's area; the bounds keep the logarithms finite.
        square = torch.rand(modes, dtype=torch.float64) * (r_max**2 - r_min**2) + r_min**2
        square = square.clamp(1e-30, 1 - 1e-12)
        phase = torch.rand(modes, dtype=torch.float64).clamp(1e-6) * max_phase
        self.norm = nn.LayerNorm(hidden_size)
        self.nu = nn.Parameter((-square.log() / 2).log().to(torch.get_default_dtype()))
        self.theta = nn.Parameter(phase.log().to(torch.get_default_dtype()))
        self.log_gamma = nn.Parameter((-square).log1p().to(torch.get_default_dtype()) / 2)
        self.B = nn.Parameter(torch.randn(modes, 2, hidden_size) / math.sqrt(2 * hidden_size))
        self.C = nn.Parameter(torch.randn(hidden_size, modes, 2) / math.sqrt(modes))
        self.D = nn.Parameter(torch.randn(hidden_size))
        self.glu = nn.Linear(hidden_size, 2 * hidden_size)  # P, p above Q, q

    def eigenvalues(self) -> tuple[Tensor, Tensor]:
        """Return Re lambda and Im lambda, (N,) each."""
        modulus, phase = (-self.nu.exp()).exp(), self.theta.exp()
        return modulus * phase.cos(), modulus * phase.sin()

    def fed(self, n: Tensor) -> Tensor:
        """Return gamma * (B n) (..., N, 2) of n (..., H)."""
        B = (self.log_gamma.exp()[:, None, None] * self.B).flatten(0, 1)  # real, (2 * N, H)
        return linear(n, B).unflatten(-1, (-1, 2))

    def mixed(self, u: Tensor, n: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return y and the gate of the GLU, (..., H) each, of u, n (..., H) and h (..., N, 2)."""
        C = (self.C * self.C.new_tensor([1, -1])).flatten(1)  # real: C h is Re(C h)
        s = linear(h.flatten(-2), C) + self.D * n
        value, a = self.glu(gelu(s)).chunk(2, dim=-1)
        gate = sigmoid(a)
        return u + value * gate, gate


class LRU(LayeredModel):
    """L blocks between a linear encoder and a linear readout; in each block, from its input u:

    n   = LayerNorm(u_t)
    h_t = lambda * h_{t-1} + gamma * (B n)      N complex modes, each on its own
    s   = Re(C h_t) + D * n
    y_t = u_t + (P g + p) * sigmoid(Q g + q),   g = GELU(s)

    with lambda = exp(-exp(nu) + i exp(theta)), so |lambda| < 1 whatever is learnt. At first lambda
    is spread evenly over the ring r_min <= |lambda| <= r_max, at angles up to max_phase, and
    gamma = sqrt(1 - |lambda|^2), whose logarithm is learnt too, gives h the size of B n.

    The state is Re h and Im h of all layers, (B, L, N) each, and y (B, H) of the top block, which
    the readout uses and no later day does.

    A. Orvieto et al., "Resurrecting recurrent neural networks for long sequences", ICML 2023;
    details and defaults as in N. Zucchet et al., github.com/NicolasZucchet/minimal-LRU. In place of
    their batch norm there is a layer norm, day by day: what a company predicts depends neither on
    other companies nor on its padding. There is no dropout.
    Reported are |lambda|, the same every day, as forget gate, and the gate of the GLU.
    """

    memory, out = ("re", "im"), "y"

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: Annotated[int, Range(2, 2**14)],  # the layer norm of one unit is always 0
        modes: Size,
        num_layers: Count,
        r_min: Annotated[float, Range(0, 1)],
        r_max: Annotated[float, Range(0, 1)],
        max_phase: Annotated[float, Range(above=0, most=2 * math.pi)],
    ) -> None:
        if r_min > r_max:
            raise SettingError(f"model.r_min {r_min} is above model.r_max {r_max}")
        super().__init__()
        self.shape = num_layers, modes
        self.encoder = nn.Linear(input_size, hidden_size)
        blocks = (LRUBlock(hidden_size, modes, r_min, r_max, max_phase) for _ in range(num_layers))
        self.blocks: list[LRUBlock] = nn.ModuleList(blocks)  # type: ignore[assignment]
        self.output = nn.Linear(hidden_size, output_size)

    def day(self, index: int, u: Tensor, before: State) -> State:
        """Step one block by a day."""
        block, re, im = self.blocks[index], before["re"], before["im"]
        n = block.norm(u)
        a, b = block.eigenvalues()
        h = torch.stack([a * re - b * im, a * im + b * re], dim=-1) + block.fed(n)
        y, gate = block.mixed(u, n, h)
        forget = torch.hypot(a, b).expand_as(re)
        return {"re": h[..., 0], "im": h[..., 1], "y": y, "forget": forget, "glu": gate}

    def days(self, x_t: Tensor, state: State) -> list[State]:
        """Return what `day` returns of each block, from the encoded inputs."""
        return super().days(self.encoder(x_t), state)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return predictions (B, K), from one block at a time over all days."""
        return self.output(self.sweep(x, lengths))

    def every_day(self, x: Tensor) -> Tensor:
        """Return predictions (B, T, K)."""
        return self.output(self.sweep(x)).transpose(0, 1)

    def sweep(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the top block's y of all days (T, B, H) or, given lengths, of the last (B, H)."""
        y = self.encoder(x.transpose(0, 1))  # (T, B, H)
        for place, block in enumerate(self.blocks, start=1):
            n = block.norm(y)
            a, fed = torch.complex(*block.eigenvalues()), torch.view_as_complex(block.fed(n))
            h = torch.view_as_real(linear_recurrence(a, fed))
            if lengths is not None and place == len(self.blocks):
                y, n, h = (at_last_day(days, lengths) for days in (y, n, h))
            y, _ = block.mixed(y, n, h)
        return y

    def recurrent_matrices(self) -> dict[str, Tensor]:
        """Return each layer's lambda as a real matrix (2 * N, 2 * N)."""
        found = {}
        for index, block in enumerate(self.blocks):
            re, im = (part.detach().diag() for part in block.eigenvalues())
            found[f"lambda_l{index}"] = torch.cat([torch.cat([re, -im], 1), torch.cat([im, re], 1)])
        return found
