"""A recurrent network whose recurrent matrix is orthogonal all through training.

B companies, T days, H hidden units, L layers.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from statland.models.activation import modrelu
from statland.models.base import State
from statland.models.init import default
from statland.models.rnn_cell import HandWrittenRNN, SweptModel
from statland.settings import Count, Size


class ExpRNN(SweptModel):
    """The recurrence of rnn_cell with W = exp(A), A = X - X^T and X lower triangular.

    h_t = f(U x_t + b + W h_{t-1}),  W^T W = I,  f modReLU, tanh, ReLU or the identity

    exp of a skew-symmetric matrix is orthogonal, and every rotation is one, so the steps of an
    optimizer on X never leave the orthogonal matrices. modReLU is sign(a) relu(|a| + c), c trained.

    M. Lezcano-Casado and D. Martinez-Rubio, "Cheap orthogonal constraints in neural networks: a
    simple parametrization of the orthogonal and unitary group", ICML 2019. A starts as in
    M. Henaff, A. Szlam and Y. LeCun, "Recurrent orthogonal networks and long-memory tasks", ICML
    2016: W turns H / 2 planes, each by an angle drawn uniformly from -pi to pi.

    W is a parametrization (torch.nn.utils.parametrize), so each access to it computes exp(A).
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: Size,
        num_layers: Count,
        nonlinearity: Literal["modrelu", "tanh", "relu", "identity"],
    ) -> None:
        recurrence = HandWrittenRNN(input_size, hidden_size, num_layers, nonlinearity)
        for layer in range(num_layers):
            name = f"weight_hh_l{layer}"
            orthogonal(recurrence, name, "matrix_exp", use_trivialization=False)
            turn_planes_(recurrence.get_parameter(f"parametrizations.{name}.original"))
            if nonlinearity == "modrelu":
                c = nn.Parameter(torch.empty(hidden_size).uniform_(-0.01, 0.01))
                recurrence.register_parameter(f"bias_modrelu_l{layer}", c)
        super().__init__(recurrence, output_size, default)

    def day(self, index: int, x_t: Tensor, before: State) -> State:
        """Step one layer by a day. Of a modReLU, "relu" is |a| + c, which ReLU is applied to."""
        if self.recurrence.nonlinearity != "modrelu":
            return super().day(index, x_t, before)
        layer, (c,) = self.layer(index), self.recurrence.own_bias(index)
        a = layer.pre_activation(x_t, before["h"])
        return {"h": modrelu(a, c), "relu": a.abs() + c}


@torch.no_grad()
def turn_planes_(X: Tensor) -> None:
    """Write into X (H, H) an angle for each plane of two units; of an odd H the last unit stays."""
    planes = torch.arange(0, len(X) - 1, 2)
    X.zero_()
    X[planes + 1, planes] = torch.empty(len(planes)).uniform_(-math.pi, math.pi)
