"""A batch of companies whose histories differ in length."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """B companies, T days, F features a day, K outputs."""

    x: Tensor  # (B, T, F) right-padded histories
    lengths: Tensor  # (B,) days each company has traded, 1 <= lengths <= T
    y: Tensor  # (B, K) the value on the day after each company's last

    @property
    def days(self) -> Tensor:
        """The days (T,), counted from 0."""
        return torch.arange(self.x.shape[1], device=self.x.device)

    def to(self, device: torch.device, dtype: torch.dtype) -> "Batch":
        """The same batch on `device`, its numbers of `dtype`."""
        return Batch(self.x.to(device, dtype), self.lengths.to(device), self.y.to(device, dtype))


def pad(histories: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Right-pad histories of shape (days, F) with zeros to (B, T, F); also return their lengths."""
    lengths = torch.tensor([len(history) for history in histories])
    return torch.nn.utils.rnn.pad_sequence(list(histories), batch_first=True), lengths
