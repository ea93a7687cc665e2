"""A recurrent network whose recurrent matrix is orthogonal all through training.

B companies, T days, H hidden units, L layers.
"""

import math
from operator import attrgetter

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from statland.models.base import Layer
from statland.models.init import default
from statland.models.rnn_cell import HandWrittenRNN, RNNCell, Unroll


class ExpRNN(RNNCell):
    """The recurrence of rnn_cell with W = exp(A), A = X - X^T and X lower triangular.

    h_t = f(U x_t + b + W h_{t-1}),  W^T W = I,  f modReLU, tanh, ReLU or the identity

    exp of a skew-symmetric matrix is orthogonal, and every rotation is one, so the steps of an
    optimizer on X never leave the orthogonal matrices. modReLU is sign(a) relu(|a| + c), c trained.

    M. Lezcano-Casado and D. Martinez-Rubio, "Cheap orthogonal constraints in neural networks: a
    simple parametrization of the orthogonal and unitary group", ICML 2019. A starts as in
    M. Henaff, A. Szlam and Y. LeCun, "Recurrent orthogonal networks and long-memory tasks", ICML
    2016: W turns H / 2 planes, each by an angle drawn uniformly from -pi to pi.
    """

    nonlinearities = ("modrelu", "tanh", "relu", "identity")

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int,
        num_layers: int,
        nonlinearity: str,
    ) -> None:
        super().__init__(input_size, output_size, hidden_size, num_layers, nonlinearity, default)
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}  # the last X and its W, by layer

    @staticmethod
    def build(input_size: int, hidden_size: int, num_layers: int, nonlinearity: str) -> nn.Module:
        """rnn_cell's weights, but that each weight_hh is the exponential of its parameter."""
        recurrence = HandWrittenRNN(input_size, hidden_size, num_layers, nonlinearity)
        for layer in range(num_layers):
            name = f"weight_hh_l{layer}"
            orthogonal(recurrence, name, "matrix_exp", use_trivialization=False)
            turn_planes_(parameter_of(recurrence, name))
            if nonlinearity == "modrelu":
                c = nn.Parameter(torch.empty(hidden_size).uniform_(-0.01, 0.01))
                recurrence.register_parameter(f"bias_modrelu_l{layer}", c)
        return recurrence

    def layer(self, index: int) -> Layer:
        """One layer's parameters, W computed from its own."""
        names = (f"{name}_l{index}" for name in ("weight_ih", "bias_ih", "bias_hh"))
        U, bias_ih, bias_hh = attrgetter(*names)(self.recurrence)
        return Layer(U, self._matrix(index), bias_ih, bias_hh)

    def _matrix(self, index: int) -> Tensor:
        """W (H, H) of a layer; for days that are stepped without gradient computed only once."""
        name = f"weight_hh_l{index}"
        X = parameter_of(self.recurrence, name)
        if torch.is_grad_enabled() and X.requires_grad:
            return getattr(self.recurrence, name)
        of, W = self._kept.get(index, (None, X))
        # By value, which costs little beside exp: a fused optimizer's step shows in nothing else.
        if of is None or of.dtype != X.dtype or of.device != X.device or not torch.equal(of, X):
            of, W = X.detach().clone(), getattr(self.recurrence, name).detach()
            self._kept[index] = of, W
        return W.clone()  # no one may write into what is kept

    def own_bias(self, index: int) -> tuple[Tensor, ...]:
        """modReLU's c (H,)."""
        if self.nonlinearity != "modrelu":
            return ()
        return (attrgetter(f"bias_modrelu_l{index}")(self.recurrence),)

    def activations(self, x: Tensor, state: Tensor) -> dict[str, Tensor]:
        """The pre-activations (N, L * H); of modReLU |a| + c, which its relu is taken of."""
        found = super().activations(x, state)
        if self.nonlinearity != "modrelu":
            return found
        c = torch.cat([c for index in range(self.num_layers) for c in self.own_bias(index)])
        return {"relu": found["modrelu"].abs() + c}

    def last_hidden(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The top hidden state (B, H) after each company's own last day."""
        x = x.transpose(0, 1)
        for index, w in enumerate(self.layers()):
            ends = lengths if index == self.num_layers - 1 else None
            b, own = w.bias_ih + w.bias_hh, self.own_bias(index)
            x = Unroll.apply(x, w.weight_ih, w.weight_hh, b, self.nonlinearity, ends, *own)
        return x


def parameter_of(recurrence: nn.Module, name: str) -> nn.Parameter:
    """X (H, H), whose strictly lower triangle makes the orthogonal matrix of that name."""
    return recurrence.get_parameter(f"parametrizations.{name}.original")


@torch.no_grad()
def turn_planes_(X: Tensor) -> None:
    """Write into X (H, H) an angle for each plane of two units; one unit of an odd H stays."""
    planes = torch.arange(0, len(X) - 1, 2)
    X.zero_()
    X[planes + 1, planes] = torch.empty(len(planes)).uniform_(-math.pi, math.pi)
