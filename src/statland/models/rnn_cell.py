"""The recurrent network written by hand: first as an equation, then fast.

B companies, T days, F features a day, K outputs, H hidden units, S state size, L layers.
U is weight_ih (H, F), W is weight_hh (H, H), b is bias_ih + bias_hh (H,).
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from statland.models.activation import modrelu, modrelu_, tanh, tanh_slope
from statland.models.base import Pullback, check_sizes
from statland.models.stacked import Init, StackedModel, side_by_side
from statland.settings import choice

# nonlinearity -> (f, f applied in place, f' written in terms of h = f(a); None where it is 1)
NONLINEARITIES: dict[str, tuple[Callable, Callable, Callable | None]] = {
    "tanh": (tanh, torch.tanh_, lambda h: 1 - h * h),
    "relu": (torch.relu, torch.relu_, lambda h: (h > 0).to(h.dtype)),
    "identity": (lambda a: a, lambda a: a, None),
    "modrelu": (modrelu, modrelu_, lambda h: (h != 0).to(h.dtype)),
}

# f' by the pre-activation, as the flow needs it: near h = 1 it cannot be told from h any more.
SLOPES: dict[str, Callable[..., Tensor]] = {
    "tanh": tanh_slope,
    "relu": lambda a: (a > 0).to(a.dtype),
    "identity": torch.ones_like,
    "modrelu": lambda a, c: (a.abs() + c > 0).to(a.dtype),
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
        self.num_layers = num_layers
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

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Map x (T, B, F) to the top layer's hidden state (B, H) after each company's last day."""
        for layer in range(self.num_layers):
            x = Unroll.apply(
                x,
                getattr(self, f"weight_ih_l{layer}"),
                getattr(self, f"weight_hh_l{layer}"),
                getattr(self, f"bias_ih_l{layer}") + getattr(self, f"bias_hh_l{layer}"),
                self.nonlinearity,
                lengths if layer == self.num_layers - 1 else None,
            )
        return x


class RNNCell(StackedModel):
    """The hand-written recurrent network.

    h_t = f(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), J. Elman, "Finding structure in time",
    Cognitive Science 14 (1990), in the form of torch.nn.RNN.

    `forward` takes the fast path, which refuses a second derivative; unrolling `cell` gives the
    same numbers and can be differentiated as often as you like.
    """

    nonlinearities: tuple[str, ...] = ("tanh", "relu", "identity")

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int,
        num_layers: int,
        nonlinearity: str,
        init: Init,
    ) -> None:
        check_sizes(hidden_size, num_layers)
        choice("model.nonlinearity", nonlinearity, self.nonlinearities)
        recurrence = self.build(input_size, hidden_size, num_layers, nonlinearity)
        self.nonlinearity = nonlinearity
        super().__init__(recurrence, hidden_size, num_layers, output_size, init)

    @staticmethod
    def build(input_size: int, hidden_size: int, num_layers: int, nonlinearity: str) -> nn.Module:
        """The module that holds the weights and runs all days."""
        return HandWrittenRNN(input_size, hidden_size, num_layers, nonlinearity)

    def own_bias(self, index: int) -> tuple[Tensor, ...]:
        """The bias c (H,) that a layer's nonlinearity has of its own: here none has."""
        return ()

    def cell(self, x_t: Tensor, state: Tensor) -> Tensor:
        """One day, written as the equation: (B, F), (B, S) -> (B, S)."""
        return side_by_side([h for _, h in self._layers(x_t, state)])

    def activations(self, x: Tensor, state: Tensor) -> dict[str, Tensor]:
        """The units' pre-activations under the name of the nonlinearity: (N, L * H)."""
        if self.nonlinearity == "identity":
            return {}
        return {self.nonlinearity: side_by_side([a for a, _ in self._layers(x, state)])}

    def pullback(self, x: Tensor, before: Tensor) -> Pullback:
        """The backward equations of `Unroll` for single days, the slopes of all days at once."""
        slope_of, days = SLOPES[self.nonlinearity], self._layers(x, before)
        slopes = [slope_of(a, *self.own_bias(index)) for index, (a, _) in enumerate(days)]
        layers = list(zip(slopes, self.layers(), strict=True))[::-1]

        def pull(day: int, v: Tensor) -> tuple[Tensor, Tensor]:
            found, from_above = [], torch.zeros(())
            for (slope, w), at_h in zip(layers, v.chunk(len(layers), dim=-1)[::-1], strict=True):
                delta = slope[day] * (at_h + from_above)
                found.append(delta @ w.weight_hh)
                from_above = delta @ w.weight_ih
            return side_by_side(found[::-1]), from_above

        return pull

    def _layers(self, x_t: Tensor, state: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """One day, layer by layer from the bottom: the pre-activation a, and h = f(a)."""
        f = NONLINEARITIES[self.nonlinearity][0]
        h = x_t
        for index, before in enumerate(state.chunk(self.num_layers, dim=-1)):
            w = self.layer(index)
            a = linear(h, w.weight_ih, w.bias_ih) + linear(before, w.weight_hh, w.bias_hh)
            h = f(a, *self.own_bias(index))
            yield a, h

    def linear_recurrence(self) -> Tensor | None:
        """W, where one layer of units is active whose slope then is 1: all but tanh."""
        is_linear = self.num_layers == 1 and self.nonlinearity != "tanh"
        return self.layer(0).weight_hh.detach() if is_linear else None

    def last_hidden(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The top hidden state (B, H) after each company's own last day."""
        return self.recurrence(x.transpose(0, 1), lengths)
