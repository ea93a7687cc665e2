"""Backpropagation through time at any length, by autograd through `cell`.

B companies, T days, F features a day. `cell` is stepped through a segment of days with the graph
kept, and one call of autograd takes the gradient from the state after the segment to every state
and input within it. Between segments the gradient is scaled to norm 1 and the logarithm of its size
accumulated, so that no finite flow overflows or vanishes.
"""

import math
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from statland.models.base import RecurrentModel, State

# Days of a segment: the graph of one segment at a time is in memory.
SEGMENT = 32

PATIENCE = 5  # seconds before there is a progress bar

Item = TypeVar("Item")


class Unrolled(NamedTuple):
    """A batch stepped forward once, the oldest company first."""

    x: Tensor  # (T, B, F)
    ages: Tensor  # (B,) descending
    states: State  # (T + 1, B, ...) before the first day, then after each day traded, else 0
    lost: Tensor  # (B,) whether the company's state became nan


class Backward(NamedTuple):
    """The gradient u dp/ds_t of every company, by day."""

    log10: dict[str, Tensor]  # (T, B) of its norm: state, its parts if there are several, x
    directions: State  # (T, B, ...) u dp/ds_t over its norm; 0 where that is 0


def track(items: Sequence[Item], name: str, progress: bool) -> Iterator[Item]:
    """Yield the items; with `progress` a bar shows their course, if they take seconds."""
    if not progress:
        yield from items
        return
    from rich import get_console  # what is measured in a moment needs no bar
    from rich.progress import Progress

    started, screen = time.monotonic(), get_console()
    with Progress(transient=True, disable=not (screen.is_terminal or screen.is_jupyter)) as bar:
        task = bar.add_task(name, total=len(items), visible=False)
        for item in items:
            yield item
            bar.update(task, advance=1, visible=time.monotonic() - started > PATIENCE)


def unroll_batch(
    model: RecurrentModel, x: Tensor, ages: Tensor, progress: bool = False
) -> Unrolled:
    """Step x (T, B, F) from its first day to each company's last; ages (B,) descend."""
    state = model.initial_state(x.shape[1])
    states = {name: s.new_zeros(len(x) + 1, *s.shape) for name, s in state.items()}
    for name, value in state.items():
        states[name][0] = value
    trading = (ages > torch.arange(len(x))[:, None]).sum(1).tolist()
    with torch.no_grad():
        for day, count in track(list(enumerate(trading)), "forward", progress):
            state = model.cell(x[day, :count], {name: s[:count] for name, s in state.items()})
            for name, value in state.items():
                states[name][day + 1, :count] = value
    lost = torch.stack([flat(s, 2).isnan().any(2).any(0) for s in states.values()]).any(0)
    return Unrolled(x, ages, states, lost)


def backward(
    model: RecurrentModel, run: Unrolled, seeds: State, progress: bool = False
) -> Backward:
    """Take u dp/ds at each company's last day, seeds (B, ...), back to its first day."""
    names = ["state", *(seeds if len(seeds) > 1 else ()), "x"]
    found = Backward(
        {name: run.x.new_full(run.x.shape[:2], math.nan) for name in names},
        {name: torch.zeros_like(states[1:]) for name, states in run.states.items()},
    )
    v, log10 = {name: seed[:0] for name, seed in seeds.items()}, run.x.new_zeros(0)
    bounds = sorted({*range(0, int(run.ages[0]), SEGMENT), *run.ages.tolist()})
    for start, stop in track(list(pairwise(bounds))[::-1], "backward", progress):
        trading, older = int((run.ages >= stop).sum()), len(log10)
        # Companies whose last day ends this segment join those that are older.
        v = {name: torch.cat([v[name], seed[older:trading]]) for name, seed in seeds.items()}
        log10 = torch.cat([log10, log10.new_zeros(trading - older)])
        v, log10 = _sweep(model, run, start, stop, v, log10, found)
    return found


def _sweep(
    model: RecurrentModel,
    run: Unrolled,
    start: int,
    stop: int,
    v: State,
    log10: Tensor,
    found: Backward,
) -> tuple[State, Tensor]:
    """Sweep from the state after day stop - 1, where the gradient is v times 10**log10 (n,).

    Writes the days start to stop - 1 into `found`; returns v and log10 before day `start`.
    """
    count = len(log10)
    v, log10 = _rescaled(v, log10)
    x, state = run.x[start:stop, :count], {n: s[start, :count] for n, s in run.states.items()}
    at_states, at_x = segment_gradients(model, x, state, v)
    parts = {name: norm(flat(gradient, 2)) for name, gradient in at_states.items()}
    sizes = {"state": norm(torch.stack(list(parts.values()), -1))}  # (t + 1, n) each
    sizes |= parts if len(parts) > 1 else {}
    # A part may well be exactly 0; the whole gradient is 0 only if it was at the end.
    known = ~run.lost[:count] & (sizes["state"][-1] > 0)
    if stop - start > 1 and _out_of_range(sizes, norm(at_x), known):
        middle = (start + stop) // 2
        v, log10 = _sweep(model, run, middle, stop, v, log10, found)
        return _sweep(model, run, start, middle, v, log10, found)
    for name, size in sizes.items():
        found.log10[name][start:stop, :count] = log10 + size[1:].log10()
    found.log10["x"][start:stop, :count] = log10 + norm(at_x).log10()
    unit = sizes["state"][1:].where(sizes["state"][1:] != 0, 1)
    for name, gradient in at_states.items():
        found.directions[name][start:stop, :count] = gradient[1:] / _like(unit, gradient)
    return {name: gradient[0] for name, gradient in at_states.items()}, log10


def segment_gradients(
    model: RecurrentModel, x: Tensor, state: State, v: State
) -> tuple[State, Tensor]:
    """Backpropagate v, the gradient at the state (n, ...) after the days x (t, n, F).

    Returns the gradients at the t + 1 states, from `state`, which is before the first day, to v,
    and those at the inputs (t, n, F).
    """
    inputs = [x_t.detach().requires_grad_() for x_t in x]
    states = [{name: value.detach().requires_grad_() for name, value in state.items()}]
    with torch.enable_grad():
        for x_t in inputs:
            after = model.cell(x_t, states[-1])
            # A view of each part, so that the gradient at c leaves out the path through h.
            states.append({name: value.view_as(value) for name, value in after.items()})
        total = inner_product(states[-1], v)
    earlier = [before[name] for before in states[:-1] for name in v]
    found = torch.autograd.grad(total, earlier + inputs, materialize_grads=True)
    at_states = {
        name: torch.stack([*found[place : len(earlier) : len(v)], v[name]])
        for place, name in enumerate(v)
    }
    return at_states, torch.stack(found[len(earlier) :])


def inner_product(state: State, v: State) -> Tensor:
    """Return the sum of the parts of a state, each times its gradient in v.

    Its derivatives are those of autograd.grad's grad_outputs, which take a second to import sympy.
    """
    return torch.stack([(state[name] * part).sum() for name, part in v.items()]).sum()


def _out_of_range(sizes: dict[str, Tensor], at_x: Tensor, known: Tensor) -> bool:
    """Whether a norm of the `known` companies (n,) has left the dtype's range, or may have.

    An exact 0 may come from underflow alone, except in a part of the state. At an input it is
    trusted where the state's gradient is large: a day may well add nothing.
    """
    every, state = torch.cat([*sizes.values(), at_x])[:, known], sizes["state"][:, known]
    tiny = torch.finfo(every.dtype).tiny ** 0.5  # 1e-154; below it a norm may be underflowing
    is_tiny = (every > 0) & (every < tiny)
    is_hidden = (at_x[:, known] == 0) & (state[1:] < tiny**0.5)
    return bool((~every.isfinite() | is_tiny).any() or (state == 0).any() or is_hidden.any())


def _rescaled(v: State, log10: Tensor) -> tuple[State, Tensor]:
    """Gradients (n, ...) of norm 1, their size moved to log10 (n,); an exact 0 stays."""
    size = norm(torch.stack([norm(flat(part, 1)) for part in v.values()], -1))
    divisor = size.where(size != 0, 1)
    return {n: part / _like(divisor, part) for n, part in v.items()}, log10 + divisor.log10()


def _like(values: Tensor, other: Tensor) -> Tensor:
    """Append dimensions of size 1 until `values` has as many as `other`."""
    return values[(...,) + (None,) * (other.ndim - values.ndim)]


def flat(values: Tensor, kept: int) -> Tensor:
    """Flatten all dimensions but the first `kept`; (n,) becomes (n, 1) where one is kept."""
    return values.reshape(*values.shape[:kept], -1)


def norm(values: Tensor) -> Tensor:
    """2-norms over the last dimension, also where squares would overflow or vanish."""
    largest = values.abs().amax(-1, keepdim=True)
    scale = largest.where((largest > 0) & largest.isfinite(), 1)
    return torch.linalg.vector_norm(values / scale, dim=-1) * scale.squeeze(-1)
