"""A gated delta network: each head's state is a matrix that stores values under keys.

B companies, T days, F features a day, K outputs, S state size, H hidden units, L layers, A heads,
D head size. M is a head's matrix (D, D), the paper's S.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize

from statland.models.activation import sigmoid, sigmoid_slope
from statland.models.base import Pullback, RecurrentModel, at_last_day, check_weights
from statland.models.delta_rule import Entry, outer, pull_store, read_all_days, store, times
from statland.settings import SettingError, integer

MOST_STATE = 2**20  # numbers of one company's state: each day's is kept where it is measured

EPSILON = 1e-6  # of the norms

# From a day, and gradients at h' (..., B, H) and M_t (..., B, A, D, D), those at h and M_{t-1}.
LayerPullback = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]


class DeltaLayer(nn.Module):
    """h' = h + W_o (norm(M_t q_t) * gate_t): what comes from below, and what is read of memory."""

    def __init__(self, hidden_size: int, num_heads: int, head_size: int) -> None:
        super().__init__()
        self.num_heads, width = num_heads, num_heads * head_size
        self.norm_weight = nn.Parameter(torch.ones(hidden_size))
        self.in_projection = nn.Linear(hidden_size, 4 * width, bias=False)  # q, k, v, gate
        self.gates = nn.Linear(hidden_size, 2 * num_heads)  # a, b
        self.A_log = nn.Parameter(torch.empty(num_heads).uniform_(1, 16).log())
        self.read_weight = nn.Parameter(torch.ones(head_size))
        self.out_projection = nn.Linear(width, hidden_size, bias=False)
        # As Mamba2 begins: at rest softplus(a) is from 0.001 to 0.1.
        at_rest = torch.empty(num_heads).uniform_(math.log(0.001), math.log(0.1)).exp()
        with torch.no_grad():
            self.gates.bias[:num_heads] = at_rest.expm1().log()
            self.gates.bias[num_heads:] = 0

    def raw(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of h (..., H): what q, k, v and gate are silu of (..., 4, A, D), and a and b (..., A)."""
        n = rms_norm(h, self.norm_weight)
        a, b = self.gates(n).chunk(2, dim=-1)
        return self.in_projection(n).unflatten(-1, (4, self.num_heads, -1)), a, b

    def entry(self, h: Tensor) -> tuple[Entry, Tensor]:
        """Of h (..., H) what is stored and looked up (..., A, D), and the gate of what is read."""
        z, a, b = self.raw(h)
        q, k, v, gate = (z * sigmoid(z)).unbind(-3)
        log_alpha = self.A_log.exp() * logsigmoid(-a)  # which is -softplus(a)
        q, k = normalize(q, dim=-1), normalize(k, dim=-1)
        return Entry(q, k, v, log_alpha, sigmoid(b)), gate

    def out(self, h: Tensor, read: Tensor, gate: Tensor) -> Tensor:
        """h' (..., H) of h and of what was read (..., A, D)."""
        return h + self.out_projection((rms_norm(read, self.read_weight) * gate).flatten(-2))

    def forward(self, h: Tensor) -> Tensor:
        """All days of (T, B, H), from an empty memory."""
        x, gate = self.entry(h)
        by_head = (values.movedim(0, 2).flatten(0, 1) for values in x)  # (B * A, T, ...)
        read = read_all_days(Entry(*by_head)).unflatten(0, (h.shape[1], -1))
        return self.out(h, read.movedim(2, 0), gate)

    def pullback(self, h: Tensor, M: Tensor) -> LayerPullback:
        """The equations above differentiated; h is (T, B, H), M (T, B, A, D, D) before each day."""
        z, a, b = self.raw(h)
        x, gate = self.entry(h)
        after = store(M, x)
        read = times(after, x.q)
        normed = rms_norm(read, self.read_weight)
        slope = z.sigmoid() + z * sigmoid_slope(z)
        size = (z * z.sigmoid())[..., :2, :, :].norm(dim=-1, keepdim=True).clamp(min=1e-12)
        to_a, to_b = -self.A_log.exp() * a.sigmoid(), sigmoid_slope(b)

        def pull(day: int, at_up: Tensor, at_M: Tensor) -> tuple[Tensor, Tensor]:
            today = x.on(day)
            at_out = (at_up @ self.out_projection.weight).unflatten(-1, (self.num_heads, -1))
            at_read = pull_rms_norm(at_out * gate[day], read[day], self.read_weight)
            before, at = pull_store(M[day], today, at_M + outer(at_read, today.q))
            # Only what turns q and k counts: their lengths are divided out.
            unit = torch.stack([today.q, today.k], dim=-3)
            at_unit = torch.stack([times(after[day].mT, at_read), at.k], dim=-3)
            across = at_unit - unit * (unit * at_unit).sum(-1, keepdim=True)
            others = torch.stack([at.v, at_out * normed[day]], dim=-3)
            at_z = torch.cat([across / size[day], others], dim=-3) * slope[day]
            at_gates = torch.cat([at.log_alpha * to_a[day], at.beta * to_b[day]], dim=-1)
            at_n = at_z.flatten(-3) @ self.in_projection.weight + at_gates @ self.gates.weight
            return at_up + pull_rms_norm(at_n, h[day], self.norm_weight), before

        return pull


class LayerDay(NamedTuple):
    """One layer's day."""

    layer: DeltaLayer
    h: Tensor  # (..., H) what comes from below
    before: Tensor  # (..., A, D, D) M_{t-1}
    entry: Entry
    after: Tensor  # (..., A, D, D) M_t
    up: Tensor  # (..., H) h', which goes up


class GatedDeltaNet(RecurrentModel):
    """`num_layers` layers whose heads store values under keys, and a linear readout.

    M_t = alpha_t M_{t-1} (I - beta_t k_t k_t^T) + beta_t v_t k_t^T,  and M_t q_t is read

    alpha = exp(-exp(A_log) softplus(a)) and beta = sigmoid(b) are numbers of each head; a and b are
    affine in norm(h). q and k, of norm 1, v and the gate are silu of linear maps of norm(h), and
    h' = h + W_o (norm(M_t q_t) * gate). The norms divide by the root mean square. The prediction is
    C norm(y) + d, where y_t is the top layer's h'. The state is M of all layers and y: the flow to
    y is 0 behind lag 0, and that to M is 0 at lag 0, since it is read through y.

    S. Yang, J. Kautz and A. Hatamizadeh, "Gated delta networks: improving Mamba2 with delta rule",
    ICLR 2025; A_log and the bias of a begin as in T. Dao and A. Gu, "Transformers are SSMs", ICML
    2024. Left out: the short convolutions before q, k and v, which would be a state of their own,
    and the feedforward layers.
    """

    parts = ("S", "y")

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        head_size: int,
    ) -> None:
        super().__init__()
        check_settings(hidden_size, num_layers, num_heads, head_size)
        self.hidden_size = hidden_size
        self.memory = (num_layers, num_heads, head_size, head_size)
        self.state_size = math.prod(self.memory) + hidden_size
        self.embedding = nn.Linear(input_size, hidden_size)
        layers = (DeltaLayer(hidden_size, num_heads, head_size) for _ in range(num_layers))
        self.blocks = nn.ModuleList(layers)
        self.norm_weight = nn.Parameter(torch.ones(hidden_size))
        self.output = nn.Linear(hidden_size, output_size)

    def initial_state(self, batch_size: int) -> Tensor:
        """Zeros (B, S): nothing is stored."""
        return self.norm_weight.new_zeros(batch_size, self.state_size)

    def split(self, state: Tensor) -> tuple[Tensor, ...]:
        """All layers' matrices (..., L * A * D * D), and y (..., H)."""
        return state[..., : -self.hidden_size], state[..., -self.hidden_size :]

    def readout(self, state: Tensor) -> Tensor:
        """The prediction (B, K) of a state (B, S)."""
        return self._predicted(self.split(state)[1])

    def _predicted(self, y: Tensor) -> Tensor:
        return self.output(rms_norm(y, self.norm_weight))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Predictions (B, K), all days of a layer at once; equal to unrolling `cell`."""
        h = self.embedding(x.transpose(0, 1))
        for layer in self.blocks:
            h = layer(h)
        return self._predicted(at_last_day(h, lengths))

    def cell(self, x_t: Tensor, state: Tensor) -> Tensor:
        """One day, written as the equation: (B, F), (B, S) -> (B, S)."""
        layers = list(self._layers(x_t, state))
        return torch.cat([*(day.after.flatten(-3) for day in layers), layers[-1].up], dim=-1)

    def activations(self, x: Tensor, state: Tensor) -> dict[str, Tensor]:
        """forget: alpha, what is kept; input: beta, what is replaced; each (N, L * A)."""
        entries = [day.entry for day in self._layers(x, state)]
        forget = torch.cat([entry.log_alpha for entry in entries], dim=-1).exp()
        return {"forget": forget, "input": torch.cat([entry.beta for entry in entries], dim=-1)}

    def _layers(self, x: Tensor, state: Tensor) -> Iterator[LayerDay]:
        """One day, of x (..., F) and the states before it, layer by layer from the bottom."""
        h = self.embedding(x)
        for layer, M in zip(self.blocks, self._matrices(self.split(state)[0]), strict=True):
            assert isinstance(layer, DeltaLayer)
            entry, gate = layer.entry(h)
            after = store(M, entry)
            up = layer.out(h, times(after, entry.q), gate)
            yield LayerDay(layer, h, M, entry, after, up)
            h = up

    def _matrices(self, memory: Tensor) -> tuple[Tensor, ...]:
        """Each layer's matrices (..., A, D, D), of all that are side by side."""
        return memory.unflatten(-1, self.memory).unbind(-4)

    def pullback(self, x: Tensor, before: Tensor) -> Pullback:
        """That of the layers, from the top one down."""
        pulls = [day.layer.pullback(day.h, day.before) for day in self._layers(x, before)]

        def pull(day: int, v: Tensor) -> tuple[Tensor, Tensor]:
            at_memory, at_h = self.split(v)
            found = []
            arriving = self._matrices(at_memory)[::-1]
            for pull_layer, at_M in zip(pulls[::-1], arriving, strict=True):
                at_h, at_before = pull_layer(day, at_h, at_M)
                found.append(at_before.flatten(-3))
            nothing = torch.zeros_like(at_h)  # yesterday's y is not looked at
            return torch.cat([*found[::-1], nothing], dim=-1), at_h @ self.embedding.weight

        return pull


def rms_norm(values: Tensor, weight: Tensor) -> Tensor:
    """Values (..., N) over their root mean square, times a weight (N,)."""
    return values * (values.square().mean(-1, keepdim=True) + EPSILON).rsqrt() * weight


def pull_rms_norm(v: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    """The gradient at the values (..., N), of the gradient v at their norm."""
    over = (values.square().mean(-1, keepdim=True) + EPSILON).rsqrt()
    v = v * weight * over
    return v - values * over.square() * (v * values).mean(-1, keepdim=True)


def check_settings(hidden_size: int, num_layers: int, num_heads: int, head_size: int) -> None:
    """Raise SettingError where a network of these sizes cannot be."""
    integer("model.hidden_size", hidden_size, 1, 2**14)
    integer("model.num_layers", num_layers, 1, 1000)
    integer("model.num_heads", num_heads, 1, 2**10)
    integer("model.head_size", head_size, 1, 2**10)
    state = num_layers * num_heads * head_size**2
    sizes = (
        f"model.num_layers {num_layers} of model.num_heads {num_heads} and model.head_size "
        f"{head_size} are"
    )
    if state > MOST_STATE:
        raise SettingError(
            f"{sizes} {state:.2g} numbers of memory a company; allowed: at most {MOST_STATE:.2g}"
        )
    check_weights(
        f"model.hidden_size {hidden_size}, {sizes}",
        num_layers * num_heads * head_size * hidden_size * 5,
    )
