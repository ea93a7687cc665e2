"""The linear recurrent unit: a diagonal, complex recurrence within the unit circle.

B companies, T days, F features a day, K outputs, H hidden units, N modes a layer, S state size,
L layers. Complex numbers are kept as pairs: (..., N, 2) are N real and imaginary parts.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear

from statland.models.activation import sigmoid, sigmoid_slope
from statland.models.base import Pullback, RecurrentModel, at_last_day, check_weights
from statland.models.by_row import Factors
from statland.models.linear_recurrence import linear_recurrence
from statland.settings import SettingError, integer, number

BlockPullback = Callable[[int, Tensor, Tensor], "BlockGradients"]


class BlockGradients(NamedTuple):
    """One day's gradients in a block, wherever its parameters and its input meet them."""

    before: Tensor  # (..., N, 2) at the h before it
    u: Tensor  # (..., H)
    n: Tensor  # (..., H)
    h: Tensor  # (..., N, 2)
    s: Tensor  # (..., H)
    gates: Tensor  # (..., 2 * H) at P g + p above Q g + q


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
        """Re lambda and Im lambda, each (N,)."""
        modulus, phase = (-self.nu.exp()).exp(), self.theta.exp()
        return modulus * phase.cos(), modulus * phase.sin()

    def fed(self, n: Tensor) -> Tensor:
        """gamma * (B n), of n (..., H): (..., N, 2)."""
        return linear(n, self._B()).unflatten(-1, (-1, 2))

    def one_day(self, n: Tensor, re: Tensor, im: Tensor) -> Tensor:
        """The next h (..., N, 2), of n (..., H) and of the h before it, (..., N) each part."""
        a, b = self.eigenvalues()
        return torch.stack([a * re - b * im, a * im + b * re], dim=-1) + self.fed(n)

    def all_days(self, n: Tensor) -> Tensor:
        """h on all days (T, B, N, 2), of n (T, B, H)."""
        fed = torch.view_as_complex(self.fed(n))
        return torch.view_as_real(linear_recurrence(torch.complex(*self.eigenvalues()), fed))

    def gated(self, n: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of n (..., H) and h (..., N, 2): s, P g + p and Q g + q, each (..., H)."""
        s = linear(h.flatten(-2), self._C()) + self.D * n
        return s, *self.glu(gelu(s)).chunk(2, dim=-1)

    def mixed(self, u: Tensor, n: Tensor, h: Tensor) -> Tensor:
        """The block's output y (..., H)."""
        _, value, a = self.gated(n, h)
        return u + value * sigmoid(a)

    def pullback(self, u: Tensor, n: Tensor, h: Tensor) -> BlockPullback:
        """The equations differentiated, the slopes of all days at once: u and n (T, B, H), h.

        It takes a day, and gradients at its h (..., N, 2) and y (..., H).
        """
        s, value, a = self.gated(n, h)
        to_s, to_gates = gelu_slope(s), torch.stack([sigmoid(a), sigmoid_slope(a) * value], dim=2)
        std = (u.var(-1, correction=0, keepdim=True) + self.norm.eps).sqrt()
        flat = (u - u.mean(-1, keepdim=True)) / std  # n = weight * flat + bias
        B, C, (re, im) = self._B(), self._C(), self.eigenvalues()

        def pull(day: int, at_h: Tensor, at_y: Tensor) -> BlockGradients:
            at_gates = (at_y.unsqueeze(-2) * to_gates[day]).flatten(-2)
            at_s = to_s[day] * (at_gates @ self.glu.weight)
            at_h = at_h + (at_s @ C).unflatten(-1, (-1, 2))
            at_n = self.D * at_s + at_h.flatten(-2) @ B
            at_flat = self.norm.weight * at_n
            along = flat[day] * (flat[day] * at_flat).mean(-1, keepdim=True)
            at_u = at_y + (at_flat - at_flat.mean(-1, keepdim=True) - along) / std[day]
            at_re, at_im = at_h.unbind(-1)
            before = torch.stack([re * at_re + im * at_im, re * at_im - im * at_re], -1)
            return BlockGradients(before, at_u, at_n, at_h, at_s, at_gates)

        return pull

    def weight_gradients(
        self, at: BlockGradients, u: Tensor, n: Tensor, before: Tensor, h: Tensor
    ) -> dict[str, Factors]:
        """What each row adds to the gradients of the block's parameters, given those of its day."""
        g, flat = gelu(self.gated(n, h)[0]), layer_norm(u, u.shape[-1:], eps=self.norm.eps)
        re, im = self.eigenvalues()
        kept = torch.view_as_complex(before.contiguous()) * torch.complex(re, im)  # lambda h_{t-1}
        along = torch.view_as_complex(at.h.contiguous()).conj() * kept
        conjugate = h * h.new_tensor([1, -1])
        gamma = self.log_gamma.exp()[:, None]
        return {
            "norm.weight": (at.n * flat,),
            "norm.bias": (at.n,),
            "nu": (-self.nu.exp() * along.real,),
            "theta": (-self.theta.exp() * along.imag,),
            "log_gamma": ((at.h * self.fed(n)).sum(-1),),
            "B": (at.h * gamma, n),
            "C": (at.s, conjugate),
            "D": (at.s * n,),
            "glu.weight": (at.gates, g),
            "glu.bias": (at.gates,),
        }

    def _B(self) -> Tensor:
        """gamma * B as a real matrix (2 * N, H)."""
        return (self.log_gamma.exp()[:, None, None] * self.B).flatten(0, 1)

    def _C(self) -> Tensor:
        """C as a real matrix (H, 2 * N) that gives the real part of C h."""
        return (self.C * self.C.new_tensor([1, -1])).flatten(1)


class LRU(RecurrentModel):
    """L blocks between a linear encoder and a linear readout; in each block, from its input u:

    n   = LayerNorm(u_t)
    h_t = lambda * h_{t-1} + gamma * (B n)      N complex modes, each on its own
    s   = Re(C h_t) + D * n
    y_t = u_t + (P g + p) * sigmoid(Q g + q),   g = GELU(s)

    with lambda = exp(-exp(nu) + i exp(theta)), so |lambda| < 1 whatever is learnt. At first lambda
    is spread evenly over the ring r_min <= |lambda| <= r_max, at angles up to max_phase, and
    gamma = sqrt(1 - |lambda|^2), whose logarithm is learnt too: so h is of the size of B n.

    The state is Re h of all layers, Im h of all layers, and y of the top block, which is all that
    the readout sees and which no later day does: S = 2 L N + H.

    A. Orvieto et al., "Resurrecting recurrent neural networks for long sequences", ICML 2023;
    details and defaults as in N. Zucchet et al., github.com/NicolasZucchet/minimal-LRU. Where they
    take a batch norm by default, this is a layer norm, day by day: what a company predicts depends
    on no other company, and not on its padding. There is no dropout.
    """

    parts = ("re", "im", "y")

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int,
        modes: int,
        num_layers: int,
        r_min: float,
        r_max: float,
        max_phase: float,
    ) -> None:
        ring = (r_min, r_max, max_phase)
        check(hidden_size, modes, num_layers, ring)
        super().__init__()
        self.sizes = [num_layers * modes, num_layers * modes, hidden_size]
        self.state_size = sum(self.sizes)
        self.encoder = nn.Linear(input_size, hidden_size)
        self.blocks = nn.ModuleList(LRUBlock(hidden_size, modes, *ring) for _ in range(num_layers))
        self.output = nn.Linear(hidden_size, output_size)

    def split(self, state: Tensor) -> tuple[Tensor, ...]:
        """Re h (..., L * N), Im h (..., L * N) and y (..., H)."""
        return state.split(self.sizes, dim=-1)

    def initial_state(self, batch_size: int) -> Tensor:
        """The state before the first day: zeros (B, S)."""
        return self.output.weight.new_zeros(batch_size, self.state_size)

    def cell(self, x_t: Tensor, state: Tensor) -> Tensor:
        """One day: (B, F), (B, S) -> (B, S)."""
        days = list(self._layers(x_t, state))
        modes = torch.cat([h for _, _, h, _ in days], dim=-2)  # (B, L * N, 2)
        return torch.cat([*modes.unbind(-1), days[-1][-1]], dim=-1)

    def readout(self, state: Tensor) -> Tensor:
        """The prediction (B, K) of a state (B, S)."""
        return self.output(self.split(state)[2])

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Predictions (B, K); equal to unrolling `cell`, a block at a time over all days."""
        y = self.encoder(x.transpose(0, 1))  # (T, B, H)
        for place, block in enumerate(self._blocks(), start=1):
            n = block.norm(y)
            h = block.all_days(n)
            if place == len(self.blocks):  # of the top block no other day is looked at
                y, n, h = (at_last_day(days, lengths) for days in (y, n, h))
            y = block.mixed(y, n, h)
        return self.output(y)

    def recurrent_matrices(self) -> dict[str, Tensor]:
        """Each layer's lambda as a real matrix (2 * N, 2 * N)."""
        found = {}
        for index, block in enumerate(self._blocks()):
            re, im = (part.detach().diag() for part in block.eigenvalues())
            found[f"lambda_l{index}"] = torch.cat([torch.cat([re, -im], 1), torch.cat([im, re], 1)])
        return found

    def activations(self, x: Tensor, state: Tensor) -> dict[str, Tensor]:
        """As the forget gate |lambda|, which no day changes, and how far the GLU is open."""
        moduli = [torch.hypot(*block.eigenvalues()) for block in self._blocks()]
        glu = [
            sigmoid(block.gated(n, h)[2])
            for block, (_, n, h, _) in zip(self._blocks(), self._layers(x, state), strict=True)
        ]
        return {"forget": torch.cat(moduli).expand(len(x), -1), "glu": torch.cat(glu, dim=-1)}

    def pullback(self, x: Tensor, before: Tensor) -> Pullback:
        """The blocks' own, from the top one down; the state's y has no part in the next day's."""
        pulls = [
            block.pullback(u, n, h)
            for block, (u, n, h, _) in zip(self._blocks(), self._layers(x, before), strict=True)
        ][::-1]

        def pull(day: int, v: Tensor) -> tuple[Tensor, Tensor]:
            re, im, at_y = self.split(v)
            at_modes = torch.stack([re, im], dim=-1).chunk(len(pulls), dim=-2)[::-1]
            found, at_u = [], at_y
            for back, at_h in zip(pulls, at_modes, strict=True):
                before, at_u, *_ = back(day, at_h, at_u)
                found.append(before)
            modes = torch.cat(found[::-1], dim=-2).unbind(-1)
            return torch.cat([*modes, torch.zeros_like(at_y)], -1), at_u @ self.encoder.weight

        return pull

    @torch.no_grad()
    def weight_gradients(self, x: Tensor, before: Tensor, v: Tensor) -> dict[str, Factors]:
        """By the equations, the blocks from the top one down: x (N, F), before and v (N, S)."""
        days = list(self._layers(x, before))
        count = len(days)
        re, im, at_y = self.split(v)
        all_at_h = torch.stack([re, im], -1).chunk(count, dim=-2)
        all_before = torch.stack(self.split(before)[:2], -1).chunk(count, dim=-2)
        found: dict[str, Factors] = {}
        for index, block in reversed(list(enumerate(self._blocks()))):
            u, n, h, _ = days[index]
            at = block.pullback(u[None], n[None], h[None])(0, all_at_h[index], at_y)
            added = block.weight_gradients(at, u, n, all_before[index], h)
            found |= {f"blocks.{index}.{name}": factors for name, factors in added.items()}
            at_y = at.u
        return found | {"encoder.weight": (at_y, x), "encoder.bias": (at_y,)}

    def _layers(self, x_t: Tensor, state: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """One day, block by block from the bottom: u, n, h (..., N, 2) and y."""
        y = self.encoder(x_t)
        re, im = (part.chunk(len(self.blocks), dim=-1) for part in self.split(state)[:2])
        for block, *before in zip(self._blocks(), re, im, strict=True):
            u, n = y, block.norm(y)
            h = block.one_day(n, *before)
            y = block.mixed(u, n, h)
            yield u, n, h, y

    def _blocks(self) -> Iterator[LRUBlock]:
        for block in self.blocks:
            assert isinstance(block, LRUBlock)
            yield block


def gelu_slope(s: Tensor) -> Tensor:
    """The derivative of GELU, s Phi(s), also far below 0, where 1 + erf(s / sqrt 2) cancels."""
    Phi = torch.erfc(-s / math.sqrt(2)) / 2
    return Phi + s * (-s.square() / 2).exp() / math.sqrt(2 * math.pi)


def check(hidden_size: int, modes: int, num_layers: int, ring: tuple[float, float, float]) -> None:
    """Raise SettingError where such a model cannot be, or would not fit into memory."""
    integer("model.hidden_size", hidden_size, 2, 2**14)  # the layer norm of one unit is always 0
    integer("model.modes", modes, 1, 2**14)
    integer("model.num_layers", num_layers, 1, 1000)
    sizes = f"model.num_layers {num_layers} of model.hidden_size {hidden_size} and model.modes"
    check_weights(f"{sizes} {modes} are", num_layers * hidden_size * (4 * modes + 2 * hidden_size))
    r_min, r_max, max_phase = ring
    number("model.r_max", r_max, 0, 1)
    number("model.r_min", r_min, 0, 1)
    if r_min > r_max:
        raise SettingError(f"model.r_min {r_min} is above model.r_max {r_max}")
    number("model.max_phase", max_phase, most=2 * math.pi, above=0)
