"""The reverse sweep: from the last day to the first, a day at a time, at any length.

B companies, T days, F features a day, S state size. The gradient is rescaled on its way and its
logarithm accumulated, so that no finite flow overflows or vanishes.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from statland.models.base import Pullback, RecurrentModel

# Days that are swept at once. The gradient is rescaled between segments.
SEGMENT = 32

# Among the quantities of a sweep, which bear the names of a state's parts, the direction's.
DIRECTION = "direction of the gradient"

# Below this a float64 norm may be on its way to underflow: the segment is swept again in halves.
TINY = 1e-150


class Unrolled(NamedTuple):
    """A batch stepped forward once, oldest company first, ready to be swept back."""

    x: Tensor  # (T, B, F)
    ages: Tensor  # (B,) falling
    before: Tensor  # (T, B, S) the state before each day that was traded, else 0
    after: Tensor  # (T, B, S) the state after it
    lost: Tensor  # (B,) whose state became nan


def unrolled(model: RecurrentModel, x: Tensor, ages: Tensor) -> Unrolled:
    """Step x (T, B, F), float64 and oldest first, from its first day to each company's last.

    ages (B,) fall.
    """
    days, companies, _ = x.shape
    state = model.initial_state(companies)
    states = x.new_zeros(days + 1, companies, model.state_size)
    states[0] = state
    trading = (ages > torch.arange(days)[:, None]).sum(1).tolist()
    with torch.no_grad():
        for day, count in enumerate(trading):
            state = model.cell(x[day, :count], state[:count])
            states[day + 1, :count] = state
    lost = states[1:].isnan().any(2).any(0)
    return Unrolled(x, ages, states[:-1], states[1:], lost)


def sweep(model: RecurrentModel, run: Unrolled, seeds: Tensor) -> dict[str, Tensor]:
    """From u dp/ds at each last day (B, S), log10 of the flow by day, each (T, B).

    By quantity: state, its parts where it has several, x. And as DIRECTION (T, B, S) u dp/ds over
    its norm, 0 where that is 0 and where a day was not traded.
    """
    names = ["state", *(model.parts if len(model.parts) > 1 else ()), "x"]
    days = {name: run.x.new_full(run.x.shape[:2], math.nan) for name in names}
    days[DIRECTION] = torch.zeros_like(run.before)
    v, log10 = seeds[:0], seeds.new_zeros(0)
    bounds = sorted({*range(0, int(run.ages[0]), SEGMENT), *run.ages.tolist()})
    for start, stop in list(pairwise(bounds))[::-1]:
        trading = int((run.ages >= stop).sum())
        # Those whose last day ends this segment set out; those still older are under way.
        v = torch.cat([v, seeds[len(v) : trading]])
        log10 = torch.cat([log10, log10.new_zeros(trading - len(log10))])
        segment = slice(start, stop), slice(trading)
        pull = model.pullback(run.x[segment], run.before[segment])
        found, v, log10 = _segment(model, pull, range(stop - start), v, log10, run.lost[:trading])
        for name, values in found.items():
            days[name][segment] = values
    return days


def _segment(
    model: RecurrentModel, pull: Pullback, days: range, v: Tensor, log10: Tensor, lost: Tensor
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Sweep t days back from v (n, S), the gradient after the last of them over 10**log10 (n,).

    Returns log10 of the flow by day, each (t, n), and its directions (t, n, S), and v and log10 at
    the start.
    """
    start, log10 = _rescaled(v, log10)
    v, at_states, at_inputs = start, [], []
    for day in reversed(days):
        at_states.append(v)
        v, at_x = pull(day, v)
        at_inputs.append(at_x)
    gradients = torch.stack(at_states[::-1])  # (t, n, S)
    norms = {"state": norm(gradients)}
    if len(model.parts) > 1:
        norms |= dict(zip(model.parts, map(norm, model.split(gradients)), strict=True))
    norms["x"] = norm(torch.stack(at_inputs[::-1]))

    if len(days) > 1 and _out_of_range(norms, norm(v), (start != 0).any(1) & ~lost):
        half = len(days) // 2
        late, v, log10 = _segment(model, pull, days[half:], start, log10, lost)
        early, v, log10 = _segment(model, pull, days[:half], v, log10, lost)
        return {name: torch.cat([early[name], late[name]]) for name in late}, v, log10
    found = {name: log10 + size.log10() for name, size in norms.items()}
    found[DIRECTION] = gradients / norms["state"].where(norms["state"] != 0, 1)[..., None]
    return found, v, log10


def _out_of_range(norms: dict[str, Tensor], before: Tensor, known: Tensor) -> bool:
    """Whether a norm of the `known` companies (n,) has left the range of float64, or may have.

    norms are (t, n) by day, `before` (n,) is at the start. An exact 0 may come of underflow alone;
    but a part of the state may well be 0 where the state is not.
    """
    every = torch.cat([*norms.values(), before[None]])[:, known]
    never_0 = torch.cat([norms["state"], norms["x"], before[None]])[:, known]
    is_tiny = (every > 0) & (every < TINY)
    return bool((~every.isfinite() | is_tiny).any() or (never_0 == 0).any())


def _rescaled(v: Tensor, log10: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients (n, S) of norm 1, their size moved to log10 (n,); an exact 0 stays."""
    size = norm(v)
    divisor = size.where(size != 0, 1)
    return v / divisor[:, None], log10 + divisor.log10()


def norm(values: Tensor) -> Tensor:
    """2-norms over the last dimension, where squares would overflow or vanish too."""
    largest = values.abs().amax(-1, keepdim=True)
    scale = largest.where((largest > 0) & largest.isfinite(), 1)
    return torch.linalg.vector_norm(values / scale, dim=-1) * scale.squeeze(-1)
