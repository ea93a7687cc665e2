"""A gated delta network: each head's state is a matrix that stores values under keys.

B companies, T days, F features a day, K outputs, H hidden units, L layers, A heads, D head size.
S is a head's matrix (D, D).
"""

import math
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid, normalize, pad, silu

from statland.models.activation import sigmoid
from statland.models.base import State, at_last_day, traded
from statland.models.delta_rule import Entry, read_all_days, store, store_all_days, times
from statland.models.stacked import LayeredModel
from statland.settings import Count, Range, Size

EPSILON = 1e-6  # of the norms


class DeltaLayer(nn.Module):
    """h' = h + W_o (norm(S_t q_t) * gate_t): the input from below plus what is read of memory."""

    def __init__(
        self, hidden_size: int, num_heads: int, head_size: int, beta_max: float, householders: int
    ) -> None:
        super().__init__()
        self.num_heads, width = num_heads, num_heads * head_size
        self.beta_max, self.steps = beta_max, householders
        self.norm_weight = nn.Parameter(torch.ones(hidden_size))
        # q, k, v, gate, and k and v of each further step
        self.in_projection = nn.Linear(hidden_size, (2 + 2 * self.steps) * width, bias=False)
        self.gates = nn.Linear(hidden_size, (1 + self.steps) * num_heads)  # a, b of each step
        self.A_log = nn.Parameter(torch.empty(num_heads).uniform_(1, 16).log())
        self.read_weight = nn.Parameter(torch.ones(head_size))
        self.out_projection = nn.Linear(width, hidden_size, bias=False)
        # As in Mamba2, softplus(a) is from 0.001 to 0.1 at rest.
        at_rest = torch.empty(num_heads).uniform_(math.log(0.001), math.log(0.1)).exp()
        with torch.no_grad():
            self.gates.bias[:num_heads] = at_rest.expm1().log()
            self.gates.bias[num_heads:] = 0

    def stored(self, h: Tensor) -> Entry:
        """Return what each head stores of h (..., H) in each of its steps: (..., n, A, ...)."""
        normed = rms_norm(h, self.norm_weight)
        b = self.gates(normed).unflatten(-1, (-1, self.num_heads))
        a, b = b[..., :1, :], b[..., 1:, :]
        parts = self._projected(normed, [1, 2, *range(4, 2 + 2 * self.steps)])
        k, v = parts[..., 0::2, :, :], parts[..., 1::2, :, :]
        log_alpha = self.A_log.exp() * logsigmoid(-a)  # logsigmoid(-a) is -softplus(a)
        log_alpha = pad(log_alpha, (0, 0, 0, self.steps - 1))  # the later steps keep all
        return Entry(normalize(k, dim=-1), v, log_alpha, self.beta_max * sigmoid(b))

    def asked(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return what each head looks up, and the gate of what it reads, (..., A, D) each."""
        q, gate = self._projected(rms_norm(h, self.norm_weight), [0, 3]).unbind(-3)
        return normalize(q, dim=-1), gate

    def _projected(self, normed: Tensor, parts: list[int]) -> Tensor:
        """Return some of q, k, v, the gate, and further k and v: (..., len(parts), A, D)."""
        rows = self.in_projection.weight.unflatten(0, (2 + 2 * self.steps, -1))[parts]
        found = silu(linear(normed, rows.flatten(0, 1)))
        return found.unflatten(-1, (len(parts), self.num_heads, -1))

    def out(self, h: Tensor, read: Tensor, gate: Tensor) -> Tensor:
        """Return h' (..., H) of h and of what was read (..., A, D)."""
        return h + self.out_projection((rms_norm(read, self.read_weight) * gate).flatten(-2))

    def forward(self, h: Tensor) -> Tensor:
        """Return h' of all days (B, T, H), from an empty memory."""
        q, gate = self.asked(h)
        asked = by_head(q).repeat_interleave(self.steps, 1)
        read = read_all_days(asked, in_turn(self.stored(h)))[:, self.steps - 1 :: self.steps]
        return self.out(h, read.unflatten(0, (len(h), -1)).transpose(1, 2), gate)

    def on_last_day(self, h: Tensor, lengths: Tensor) -> Tensor:
        """Return what `forward` returns on each company's last day, (B, H)."""
        x = self.stored(h)
        counts = traded(lengths, h.shape[1])[..., None, None]
        # Behind the last day all is kept and nothing stored: the matrix stays as it was.
        x = x._replace(log_alpha=x.log_alpha * counts, beta=x.beta * counts)
        S = store_all_days(in_turn(x)).unflatten(0, (len(h), -1))
        h = at_last_day(h.transpose(0, 1), lengths)
        q, gate = self.asked(h)
        return self.out(h, times(S, q), gate)


def by_head(values: Tensor) -> Tensor:
    """Map (B, T, A, ...) to (B * A, T, ...)."""
    return values.transpose(1, 2).flatten(0, 1)


def in_turn(x: Entry) -> Entry:
    """Map (B, T, n, A, ...) to (B * A, T * n, ...): the n steps of a day one after the other."""
    return Entry(*(by_head(values.flatten(1, 2)) for values in x))


class GatedDeltaNet(LayeredModel):
    """`num_layers` layers whose heads store values under keys, and a linear readout.

    S_t = alpha_t S_{t-1} (I - beta_t k_t k_t^T) + beta_t v_t k_t^T,  and S_t q_t is read

    alpha = exp(-exp(A_log) softplus(a)) and beta = sigmoid(b) are numbers of each head; a and b are
    affine in norm(h). q and k, of norm 1, v and the gate are silu of linear maps of norm(h), and
    h' = h + W_o (norm(S_t q_t) * gate). The norms divide by the root mean square. The prediction is
    C norm(y) + d, where y_t is the top layer's h'. The state is S of all layers (B, L, A, D, D) and
    y (B, H): the flow to y is 0 behind lag 0, and that to S, which is read through y, at lag 0.

    With `beta_max` 2, beta is 2 sigmoid(b), and I - beta k k^T may have a negative eigenvalue: a
    value can change its sign every day, as counting modulo 2 asks for (R. Grazzi et al., "Unlocking
    state-tracking in linear RNNs through negative eigenvalues", ICLR 2025). With `householders` n a
    day takes n such steps, with k, v and beta of their own, alpha in the first alone (J. Siems et
    al., "DeltaProduct", arXiv:2502.10297): a product of two reflections is a rotation.

    S. Yang, J. Kautz and A. Hatamizadeh, "Gated delta networks: improving Mamba2 with delta rule",
    ICLR 2025; A_log and the bias of a begin as in T. Dao and A. Gu, "Transformers are SSMs", ICML
    2024. Left out: the short convolutions before q, k and v, which would be a state of their own,
    and the feedforward layers. Reported are alpha as forget gate and the first step's beta as
    input gate.
    """

    memory, out = ("S",), "y"

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: Size,
        num_layers: Count,
        num_heads: Annotated[int, Range(1, 2**10)],
        head_size: Annotated[int, Range(1, 2**8)],
        beta_max: Annotated[float, Range(above=0, most=2)] = 1.0,
        householders: Annotated[int, Range(1, 16)] = 1,
    ) -> None:
        super().__init__()
        self.shape = num_layers, num_heads, head_size, head_size
        self.embedding = nn.Linear(input_size, hidden_size)
        sizes = hidden_size, num_heads, head_size, beta_max, householders
        layers = (DeltaLayer(*sizes) for _ in range(num_layers))
        self.blocks: list[DeltaLayer] = nn.ModuleList(layers)  # type: ignore[assignment]
        self.norm_weight = nn.Parameter(torch.ones(hidden_size))
        self.output = nn.Linear(hidden_size, output_size)

    def day(self, index: int, h: Tensor, before: State) -> State:
        """Step one layer by a day."""
        layer = self.blocks[index]
        stored, (q, gate) = layer.stored(h), layer.asked(h)
        S = before["S"]
        for step in zip(*(values.unbind(1) for values in stored), strict=True):
            S = store(S, Entry(*step))
        up, forget = layer.out(h, times(S, q), gate), stored.log_alpha[:, 0].exp()
        return {"S": S, "y": up, "forget": forget, "input": stored.beta[:, 0]}

    def days(self, x_t: Tensor, state: State) -> list[State]:
        """Return what `day` returns of each layer, from the embedded inputs."""
        return super().days(self.embedding(x_t), state)

    def readout(self, state: State) -> Tensor:
        """Return the prediction (B, K) of y."""
        return self.output(rms_norm(state["y"], self.norm_weight))

    def every_day(self, x: Tensor) -> Tensor:
        """Return predictions on every day (B, T, K), from all days of a layer at once."""
        h = self.embedding(x)
        for layer in self.blocks:
            h = layer(h)
        return self.readout({"y": h})

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return predictions (B, K), from all days of a layer at once."""
        h = self.embedding(x)
        for layer in self.blocks[:-1]:
            h = layer(h)
        return self.readout({"y": self.blocks[-1].on_last_day(h, lengths)})


def rms_norm(values: Tensor, weight: Tensor) -> Tensor:
    """Return values (..., N) over their root mean square, times a weight (N,)."""
    return values * (values.square().mean(-1, keepdim=True) + EPSILON).rsqrt() * weight
