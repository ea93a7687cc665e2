"""The copy of a model that is measured, so that the model itself stays as it is."""

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

Module = TypeVar("Module", bound=nn.Module)


def frozen(model: Module, dtype: Any = torch.float64, device: Any = "cpu") -> Module:
    """Return a float64 copy on the processor, in evaluation mode, that needs no gradient.

    A weight that is computed from other parameters (exprnn's orthogonal matrix, weight norm) is
    computed once and becomes a parameter of its own.
    """
    copied = copy.deepcopy(model).to(device, dtype).eval()
    for module in list(copied.modules()):
        if parametrize.is_parametrized(module):
            kind = type(module)  # which the copy shares with the model, and which is changed below
            module.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name)
    return copied.requires_grad_(False)


def undisturbed(device: torch.device) -> AbstractContextManager[None]:
    """Return a context after which the random numbers, of `device` too, are as they were."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def placed(value: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """Return a tensor, or each of a dict's, on `device`, and in `dtype` if it is floating."""
    if isinstance(value, Mapping):
        return {name: placed(part, device, dtype) for name, part in value.items()}
    if not isinstance(value, Tensor):
        return value
    return value.detach().to(device, dtype if value.is_floating_point() else None)


def exact(values: Tensor) -> Tensor:
    """Return the values in float64, on the processor."""
    return values.cpu().double()
