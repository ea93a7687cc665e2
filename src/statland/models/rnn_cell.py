"""The recurrent network written by hand: first as an equation, then fast.

B companies, T days, F features a day, K outputs, H hidden units, L layers.
U is weight_ih (H, F), W is weight_hh (H, H), b is bias_ih + bias_hh (H,).
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from statland.models.activation import modrelu, modrelu_, tanh
from statland.models.base import Layer, State
from statland.models.stacked import Init, StackedModel, layer_of
from statland.settings import Count, Size

# nonlinearity -> (f, f applied in place, f' written in terms of h = f(a); None where it is 1)
NONLINEARITIES: dict[str, tuple[Callable, Callable, Callable | None]] = {
    "tanh": (tanh, torch.tanh_, lambda h: 1 - h * h),
    "relu": (torch.relu, torch.relu_, lambda h: (h > 0).to(h.dtype)),
    "identity": (lambda a: a, lambda a: a, None),
    "modrelu": (modrelu, modrelu_, lambda h: (h != 0).to(h.dtype)),
}

# Days are swept back a block at a time, so that a block's gradients stay in the processor's cache
# until the weights have used them.
BLOCK_ELEMENTS = 2**18


class Unroll(torch.autograd.Function):
    """One layer over all days, and its backpropagation through time, both by hand.

    Forward, from h_0 = 0:      h_t = f(a_t),  a_t = U x_t + b + W h_{t-1}
    Backward, from tomorrow:    delta_t = dl/da_t = f'(a_t) * (dl/dh_t + W^T delta_{t+1})
    Then, summed over days:     dl/dW = delta_t h_{t-1}^T,  dl/dU = delta_t x_t^T,  dl/db = delta_t
    and for the layer below:    dl/dx_t = U^T delta_t

    dl/dh_t is what reaches day t from above, not from tomorrow; c is the bias that modReLU has of
    its own, and there dl/dc = sign(h_t) delta_t. Source: P. Werbos, "Backpropagation through time:
    what it does and how to do it", Proc. IEEE 78 (1990).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        U: Tensor,
        W: Tensor,
        b: Tensor,
        nonlinearity: str,
        lengths: Tensor | None,
        *c: Tensor,
    ) -> Tensor:
        """Map x (T, B, F) to all hidden states (T, B, H) or, given lengths, to the last (B, H)."""
        days, companies, features = x.shape
        _, f_, _ = NONLINEARITIES[nonlinearity]
        # All inputs in one product. The states then take the place of what feeds them.
        states = torch.addmm(b, x.reshape(-1, features), U.T).view(days, companies, -1)
        W_T = W.T.contiguous()
        today, *later = states.unbind(0)
        h = f_(today, *c)
        for a in later:
            h = f_(a.addmm_(h, W_T), *c)
        ctx.save_for_backward(x, U, W, states, lengths)
        ctx.nonlinearity = nonlinearity
        if lengths is None:
            return states
        return states[lengths - 1, torch.arange(companies, device=x.device)]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Sweep from the last day to the first; grad has the shape that forward returned."""
        x, U, W, states, lengths = ctx.saved_tensors
        days, companies, hidden = states.shape
        slope_of = NONLINEARITIES[ctx.nonlinearity][2]
        grad_x = x.new_empty(x.shape) if ctx.needs_input_grad[0] else None
        grad_U, grad_W, grad_b = torch.zeros_like(U), torch.zeros_like(W), U.new_zeros(hidden)
        grad_c = [U.new_zeros(hidden) for _ in ctx.needs_input_grad[6:]]
        block = max(1, min(days, 64, BLOCK_ELEMENTS // (companies * hidden)))
        delta = states.new_zeros(block + 1, companies, hidden)
        # Days before the youngest company's last get a gradient from tomorrow alone.
        first_end = 0 if lengths is None else int(lengths.min())

        for stop in range(days, 0, -block):
            start = max(0, stop - block)
            n = stop - start
            delta[n] = delta[0]  # the tomorrow of this block is the first day of the one after it
            today = delta[:n]
            _from_above(grad, lengths, start, stop, out=today)
            slope = None if slope_of is None else slope_of(states[start:stop]).unbind(0)
            tomorrow = delta[n]
            for day in reversed(range(n)):
                tomorrow = delta[day].addmm_(tomorrow, W)
                if slope is not None:
                    tomorrow.mul_(slope[day])

            flat = today.view(-1, hidden)
            first = 1 if start == 0 else 0  # h_0 = 0: the very first day adds nothing to dl/dW
            yesterday = states[start + first - 1 : stop - 1].view(-1, hidden)
            grad_W.addmm_(flat[first * companies :].T, yesterday)
            grad_U.addmm_(flat.T, x[start:stop].reshape(len(flat), -1))
            grad_b += flat.sum(0)
            if grad_c:
                grad_c[0] += (today * states[start:stop].sign()).sum((0, 1))
            if grad_x is not None:
                torch.mm(flat, U, out=grad_x[start:stop].view(len(flat), -1))
            if start < first_end and not delta[0].any():
                # The gradient has vanished to an exact 0: so it is on every day before.
                if grad_x is not None:
                    grad_x[:start] = 0
                break
        return grad_x, grad_U, grad_W, grad_b, None, None, *grad_c


def _from_above(grad: Tensor, lengths: Tensor | None, start: int, stop: int, out: Tensor) -> None:
    """Write dl/dh_t, as it arrives from above on the days from start to stop, into `out`."""
    if lengths is None:
        out.copy_(grad[start:stop])
        return
    out.zero_()
    ending = ((lengths > start) & (lengths <= stop)).nonzero().squeeze(1)
    out[lengths[ending] - 1 - start, ending] = grad[ending]


class HandWrittenRNN(nn.Module):
    """L layers with the parameters, and the initialisation, of nn.RNN; time-major."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, nonlinearity: str):
        super().__init__()
        self.hidden_size, self.num_layers = hidden_size, num_layers
        self.nonlinearity = nonlinearity
        bound = 1 / math.sqrt(hidden_size)
        for layer in range(num_layers):
            shapes = {
                "weight_ih": (hidden_size, input_size if layer == 0 else hidden_size),
                "weight_hh": (hidden_size, hidden_size),
                "bias_ih": (hidden_size,),
                "bias_hh": (hidden_size,),
            }
            for name, shape in shapes.items():
                parameter = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
                self.register_parameter(f"{name}_l{layer}", parameter)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map x (T, B, F) to the top layer's h (T, B, H) or, given lengths, to the last (B, H)."""
        for index in range(self.num_layers):
            U, W, b_ih, b_hh, _ = layer_of(self, f"_l{index}")
            read = lengths if index == self.num_layers - 1 else None
            x = Unroll.apply(x, U, W, b_ih + b_hh, self.nonlinearity, read, *self.own_bias(index))
        return x

    def own_bias(self, layer: int) -> tuple[Tensor, ...]:
        """Return the bias c (H,) of a layer's modReLU; () for the other nonlinearities."""
        return (getattr(self, f"bias_modrelu_l{layer}"),) if self.nonlinearity == "modrelu" else ()


class ElmanModel(StackedModel):
    """Layers h_t = f(U x_t + b_ih + W h_{t-1} + b_hh), in the form of torch.nn.RNN.

    J. Elman, "Finding structure in time", Cognitive Science 14 (1990).
    """

    def day(self, index: int, x_t: Tensor, before: State) -> State:
        """Step one layer by a day."""
        return rnn_day(self.recurrence.nonlinearity, self.layer(index), x_t, before)

    @property
    def linear_recurrence(self) -> Tensor | None:
        """W (H, H) where dh_t/dh_{t-1} is W while all units are active, else None."""
        is_linear = self.recurrence.num_layers == 1 and self.recurrence.nonlinearity != "tanh"
        return self.layer(0).weight_hh.detach() if is_linear else None


def rnn_day(nonlinearity: str, layer: Layer, x_t: Tensor, before: State) -> State:
    """Step one layer of an nn.RNN by a day; all tensors are (B, H)."""
    a = layer.pre_activation(x_t, before["h"])
    h = NONLINEARITIES[nonlinearity][0](a)
    return {"h": h} if nonlinearity == "identity" else {"h": h, nonlinearity: a}


class SweptModel(ElmanModel):
    """Takes the fast path, `Unroll`, which refuses a second derivative.

    Unrolling `cell` gives the same numbers and can be differentiated any number of times.
    """

    recurrence: HandWrittenRNN

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return predictions (B, K)."""
        return self.output(self.recurrence(x.transpose(0, 1), lengths))

    def every_day(self, x: Tensor) -> Tensor:
        """Return predictions (B, T, K)."""
        return self.output(self.recurrence(x.transpose(0, 1))).transpose(0, 1)


class RNNCell(SweptModel):
    """The hand-written recurrent network."""

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: Size,
        num_layers: Count,
        nonlinearity: Literal["tanh", "relu", "identity"],
        init: Init,
    ) -> None:
        recurrence = HandWrittenRNN(input_size, hidden_size, num_layers, nonlinearity)
        super().__init__(recurrence, output_size, init)
