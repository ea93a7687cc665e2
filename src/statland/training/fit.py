"""The training loop."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from statland.batch import Batch, loss
from statland.models.base import SequenceModel, predict_answers

# So many steps running without a finite loss, and the run has diverged.
PATIENCE = 20


@dataclass(frozen=True)
class Step:
    """A step between its backward pass and its update: the raw gradients are in place."""

    index: int  # updates made before this one
    batch: Batch
    loss: float  # of the batch, a mean over its answers
    gradient_norm: float  # of all parameters' gradients together, before clipping
    clipped: bool  # the gradient will be scaled down to clip_norm
    skipped: bool  # the gradient is not finite and will not be applied


class Diverged(Exception):
    """The loss has not been finite for PATIENCE steps running."""


def fit(
    model: SequenceModel,
    train_batch: Callable[[int], Batch],
    optimizer: torch.optim.Optimizer,
    steps: int,
    clip_norm: float | None,
    start: int = 0,
    lost: int = 0,
) -> Iterator[Step]:
    """Make updates until there are `steps`; yield each step before clipping.

    `start` and `lost` are those of the step at which an earlier try is taken up. Raises Diverged
    where training is lost.
    """
    parameters = list(model.parameters())
    for index in range(start, steps):
        batch = train_batch(index)
        for parameter in parameters:
            parameter.grad = None
        error = loss(predict_answers(model, batch), batch.answers)
        error.backward()

        norm = gradient_norm(parameters)
        clipped = clip_norm is not None and clip_norm < norm < math.inf
        skipped = not math.isfinite(norm)
        # Raw gradients: clipping would hide the explosion that we look for.
        yield Step(index, batch, error.item(), norm, clipped, skipped)

        if clip_norm is not None and clipped:
            for gradient in (p.grad for p in parameters if p.grad is not None):
                gradient.mul_(clip_norm / norm)
        if not skipped:
            optimizer.step()
        lost = 0 if error.isfinite() else lost + 1
        if lost == PATIENCE:
            raise Diverged(f"the loss was not finite for {PATIENCE} steps running")


def gradient_norm(parameters: Iterable[nn.Parameter]) -> float:
    """The 2-norm of all gradients together, in float64: float32 would overflow on squares of 1e20.

    A gradient that is not finite anywhere gives inf or nan.
    """
    flat = torch.cat([g.reshape(-1) for p in parameters if (g := p.grad) is not None])
    if flat.is_mps:  # which has no float64
        flat = flat.cpu()
    return torch.linalg.vector_norm(flat, dtype=torch.float64).item()
