"""A batch of companies whose histories differ in length, and the loss of a prediction."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Batch(NamedTuple):
    """B companies, T days, F features a day, K outputs.

    y holds what is asked of the last day, or of every day: numbers (B, K) or (B, T, K), nan where
    nothing is asked; or classes (B,) or (B, T) of dtype int64, -1 where nothing is asked.
    """

    x: Tensor  # (B, T, F) right-padded histories
    lengths: Tensor  # (B,) days each company has traded, 1 <= lengths <= T
    y: Tensor  # the value on the day after

    @property
    def days(self) -> Tensor:
        """The days (T,), counted from 0."""
        return torch.arange(self.x.shape[1], device=self.x.device)

    @property
    def has_classes(self) -> bool:
        """Whether the answers are classes."""
        return not self.y.is_floating_point()

    @property
    def asks_every_day(self) -> bool:
        """Whether y has a place for every day."""
        return self.y.ndim == (2 if self.has_classes else 3)

    @property
    def asked(self) -> Tensor:
        """The days (B, T) that have an answer."""
        if not self.asks_every_day:
            return self.days == self.lengths[:, None] - 1
        return self.y >= 0 if self.has_classes else ~self.y.isnan().any(2)

    @property
    def answers(self) -> Tensor:
        """The N answers that are asked for, (N, K) or classes (N,), by company and then by day."""
        return self.y[self.asked] if self.asks_every_day else self.y

    def of_last_day(self) -> "Batch":
        """The same companies, asked on their last day alone."""
        if not self.asks_every_day:
            return self
        return self._replace(y=self.y[torch.arange(len(self.y)), self.lengths - 1])

    def to(self, device: torch.device, dtype: torch.dtype) -> "Batch":
        """The same batch on `device`, its numbers of `dtype`."""
        y = self.y.to(device) if self.has_classes else self.y.to(device, dtype)
        return Batch(self.x.to(device, dtype), self.lengths.to(device), y)


def loss(prediction: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
    """Return the mean squared error of numbers y (N, K), or the cross-entropy of classes y (N,).

    prediction is (N, K), for classes their logits. With `reduction` "none" there is one value for
    each answer, (N,).
    """
    if not y.is_floating_point():
        return functional.cross_entropy(prediction, y, reduction=reduction)
    squared = functional.mse_loss(prediction, y, reduction=reduction)
    return squared if reduction == "mean" else squared.mean(-1)


def pad(histories: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Right-pad histories of shape (days, F) with zeros to (B, T, F); also return their lengths."""
    lengths = torch.tensor([len(history) for history in histories])
    return torch.nn.utils.rnn.pad_sequence(list(histories), batch_first=True), lengths
