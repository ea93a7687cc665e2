"""What each row of a batch, a company's day, adds to the gradient of the weights.

N rows, F features a day, S state size.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

if TYPE_CHECKING:  # which is built on this file
    from statland.models.base import RecurrentModel

# What N rows add to a parameter's gradient, one tensor (N, *its shape), or two (N, ...) whose
# outer product it is: delta (N, H) and what the matrix was multiplied by (N, F). Of a parameter of
# three dimensions one of the two has two of them.
Factors = tuple[Tensor, ...]


class Day(nn.Module):
    """A model's `cell` as its forward, where functional_call looks for it."""

    model: "RecurrentModel"

    def __init__(self, model: "RecurrentModel") -> None:
        super().__init__()
        self.model = model

    def forward(self, x_t: Tensor, state: Tensor) -> Tensor:
        """One day: (N, F), (N, S) -> (N, S)."""
        return self.model.cell(x_t, state)


def stepped(
    model: "RecurrentModel", weights: Mapping[str, Tensor], x: Tensor, before: Tensor
) -> Tensor:
    """The states (N, S) after `cell` with these weights, by name, in place of the model's own."""
    replaced = {f"model.{name}": weight for name, weight in weights.items()}
    return functional_call(Day(model), replaced, (x, before))


def by_autograd(
    model: "RecurrentModel", x: Tensor, before: Tensor, v: Tensor
) -> dict[str, Factors]:
    """Of every parameter that `cell` uses, what each row adds to its gradient (N, *shape).

    x is (N, F), the states before it and the gradients v at those after it are (N, S).
    """
    weights = used_by_cell(model, x[:1], before[:1])
    if not weights:
        return {}

    def one(x_t: Tensor, state: Tensor, at_after: Tensor) -> dict[str, Tensor]:
        def after(replaced: Mapping[str, Tensor]) -> Tensor:
            return stepped(model, replaced, x_t[None], state[None])

        return vjp(after, weights)[1](at_after[None])[0]

    try:
        found = vmap(one, randomness="different")(x, before, v)
    except (RuntimeError, AttributeError):
        # Not every cell can be vmapped: of some, autograd takes one row at a time.
        found = _row_by_row(model, list(weights), x, before, v)
    return {name: (gradients,) for name, gradients in found.items()}


def used_by_cell(model: "RecurrentModel", x: Tensor, before: Tensor) -> dict[str, Tensor]:
    """The parameters, by name and detached, that `cell` uses of those that need a gradient."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = _gradients(model, list(parameters.values()), x, before, torch.ones_like(before))
    found = zip(parameters.items(), gradients, strict=True)
    return {name: p.detach() for (name, p), gradient in found if gradient is not None}


def _row_by_row(
    model: "RecurrentModel", names: list[str], x: Tensor, before: Tensor, v: Tensor
) -> dict[str, Tensor]:
    parameters = [model.get_parameter(name) for name in names]
    rows = []
    for row in zip(x.split(1), before.split(1), v.split(1), strict=True):
        gradients = _gradients(model, parameters, *row)
        pairs = zip(gradients, parameters, strict=True)
        rows.append([torch.zeros_like(p) if g is None else g for g, p in pairs])
    return {name: torch.stack(g) for name, g in zip(names, zip(*rows, strict=True), strict=True)}


def _gradients(
    model: "RecurrentModel", parameters: list[nn.Parameter], x: Tensor, before: Tensor, v: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradients v (N, S) at the states after a day, pulled back to the parameters."""
    with torch.enable_grad():
        after = Day(model)(x, before)
    if not after.requires_grad:
        return (None,) * len(parameters)
    return torch.autograd.grad(after, parameters, v, allow_unused=True)
