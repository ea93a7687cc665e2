"""The recurrence h_t = a_t h_{t-1} + b_t over all days, forward and backward written by hand.

B companies, T days, H hidden units.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# dl/da is computed a block of days at a time, while what it is made of is in the processor's cache.
BLOCK_ELEMENTS = 2**16


class Sweep(torch.autograd.Function):
    """All days of h_t = a_t h_{t-1} + b_t, and its backpropagation through time.

    Forward, from h_0 = 0:      h_t = a_t h_{t-1} + b_t
    Backward, from tomorrow:    v_t = dl/dh_t + conj(a_{t+1}) v_{t+1}
    Then:                       dl/db_t = v_t,  dl/da_t = v_t conj(h_{t-1})
    and for an a of all days:   dl/da is the sum of dl/da_t over days and companies

    Here dl/dh_t is what reaches day t from above, not from tomorrow, and of complex numbers dl/dh
    is dl/dRe h + i dl/dIm h, as PyTorch has it: that is where the conjugates come from.

    A day at a time, in place: one day's values are in the processor's cache when the next one needs
    them. A parallel scan has more to do and, on a CPU, nothing to gain by it.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        """Map a (T, B, H) or (H,), and b (T, B, H), to all h (T, B, H)."""
        h = b.clone(memory_format=torch.contiguous_format)
        yesterday, *later = h.unbind(0)
        for a_t, today in zip(a.expand_as(h)[1:].unbind(0), later, strict=True):
            yesterday = today.addcmul_(a_t, yesterday)
        ctx.save_for_backward(a, h)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Sweep from the last day to the first; grad is (T, B, H)."""
        a, h = ctx.saved_tensors
        is_constant = a.ndim == 1
        at_a = torch.zeros_like(a) if is_constant else torch.empty_like(h)
        if not is_constant:
            at_a[0] = 0  # h_0 = 0
        v = torch.empty_like(h).copy_(grad)
        a_days, v_days = a.conj().resolve_conj().expand_as(h).unbind(0), v.unbind(0)
        block = max(1, BLOCK_ELEMENTS // h[0].numel())
        for stop in range(len(h), 1, -block):
            start = max(1, stop - block)
            for day in range(stop - 1, start - 1, -1):
                v_days[day - 1].addcmul_(a_days[day], v_days[day])
            today, yesterday = v[start:stop], h[start - 1 : stop - 1].conj()
            if is_constant:
                at_a += (today * yesterday).sum((0, 1))
            else:
                torch.mul(today, yesterday, out=at_a[start:stop])
        return at_a, v


def linear_recurrence(a: Tensor, b: Tensor) -> Tensor:
    """h_t = a_t h_{t-1} + b_t for all days at once, from h_0 = 0: (T, B, H), time-major.

    b is (T, B, H); a is (T, B, H), or (H,) where every day has the same; both real, or both
    complex. The backward pass is by hand, see `Sweep`; there is no second derivative.
    """
    return Sweep.apply(a, b)
