"""A causal transformer: attention over all days so far, no state.

B companies, T days, F features a day, K outputs, H hidden units, A heads, D = H / A.
"""

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from statland.models.base import SequenceModel, at_last_day, traded
from statland.settings import Count, Range, SettingError

# The longest wave of the rotations is 2 pi times this many days, the shortest 2 pi.
BASE = 10_000.0


def rotated(vectors: Tensor) -> Tensor:
    """Turn the vectors (..., T, D) of the days 0, 1, ... by their days.

    The plane of the coordinates i and i + D/2 is turned by day * BASE^(-2i/D), so that the product
    of two days' vectors depends only on the number of days between them.
    J. Su, Y. Lu, S. Pan, A. Murtadha, B. Wen and Y. Liu, "RoFormer: enhanced transformer with
    rotary position embedding", arXiv:2104.09864 (2021).
    """
    days, size = vectors.shape[-2:]
    # In float64 and on the processor: in float32 an angle of 1000 days would be off by 3e-5.
    speed = BASE ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    angle = torch.arange(days, dtype=torch.float64)[:, None] * speed
    cos, sin = angle.cos().to(vectors), angle.sin().to(vectors)  # (T, D / 2)
    a, b = vectors.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class Attention(nn.Module):
    """softmax(q k^T / sqrt(D)) v by head, over the days so far; q and k turned by their days."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_projection = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        self.out_projection = nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, h: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map (B, T, H) to (B, T, H); given lengths (B,), to (B, 1, H), the last days alone."""
        heads = self.in_projection(h).unflatten(2, (3, self.num_heads, -1))  # (B, T, 3, A, D)
        heads = heads.permute(2, 0, 3, 1, 4)  # q, k and v, (B, A, T, D) each
        (q, k), so_far = rotated(heads[:2]), None
        if lengths is not None:
            q = at_last_day(q.movedim(2, 0), lengths).unsqueeze(2)  # (B, A, 1, D)
            so_far = traded(lengths, h.shape[1])[:, None, None]
        mixed = scaled_dot_product_attention(q, k, heads[2], so_far, is_causal=so_far is None)
        return self.out_projection(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """h + attention(norm(h)), then h + feedforward(norm(h)), with dropout of the second terms."""

    def __init__(self, hidden_size: int, num_heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.attention = Attention(hidden_size, num_heads)
        self.feedforward_norm = nn.LayerNorm(hidden_size)
        self.feedforward = nn.Sequential(
            nn.Linear(hidden_size, feedforward), nn.ReLU(), nn.Linear(feedforward, hidden_size)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map (B, T, H) to (B, T, H); given lengths (B,), to (B, 1, H), the last days alone."""
        mixed = self.attention(self.attention_norm(h), lengths)
        if lengths is not None:
            h = at_last_day(h.transpose(0, 1), lengths).unsqueeze(1)
        h = h + self.dropout(mixed)
        return h + self.dropout(self.feedforward(self.feedforward_norm(h)))


class Transformer(SequenceModel):
    """`num_layers` blocks of attention and feedforward layer, then a norm and a linear readout.

    h^0_t = W x_t + b,  h^{l+1} = block_l(h^l),  the prediction is C norm(h^L_T) + d

    A. Vaswani et al., "Attention is all you need", NeurIPS 2017: multi-head attention, a ReLU
    feedforward layer, dropout of each sublayer's output. The norm stands before each sublayer, as
    in R. Xiong et al., "On layer normalization in the transformer architecture", ICML 2020.
    Positions are rotations of queries and keys, see `rotated`.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: Annotated[int, Range(2, 2**14)],
        num_layers: Count,
        num_heads: Annotated[int, Range(1, 2**10)],
        feedforward: Annotated[int, Range(1, 2**16)],
        dropout: Annotated[float, Range(0, below=1)],
    ) -> None:
        if hidden_size % (2 * num_heads):  # a rotation turns pairs of units
            raise SettingError(
                f"model.num_heads is {num_heads} with model.hidden_size {hidden_size}; allowed: "
                f"a hidden size that is a multiple of {2 * num_heads}, twice the heads"
            )
        super().__init__()
        self.embedding = nn.Linear(input_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        blocks = (Block(hidden_size, num_heads, feedforward, dropout) for _ in range(num_layers))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(hidden_size)
        self.output = nn.Linear(hidden_size, output_size)

    def every_day(self, x: Tensor) -> Tensor:
        """Return predictions on every day (B, T, K), from x (B, T, F)."""
        return self.output(self.norm(self.blocks(self.dropout(self.embedding(x)))))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return predictions (B, K), those of each company's own last day, from x (B, T, F)."""
        h = self.blocks[:-1](self.dropout(self.embedding(x)))
        h = self.blocks[-1](h, lengths)
        return self.output(self.norm(h.squeeze(1)))
