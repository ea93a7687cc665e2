"""nn.GRU, and its day written as equations.

B companies, H hidden units.
"""

from torch import Tensor, nn
from torch.nn.functional import linear

from statland.models.activation import sigmoid, tanh
from statland.models.base import Layer, State
from statland.models.stacked import Init, StackedModel
from statland.settings import Count, Size


class GRU(StackedModel):
    """torch.nn.GRU on right-padded histories, read off at each company's own last day.

    r   = sigmoid(W_r x_t + b_r + R_r h_{t-1} + c_r)          the reset gate
    z   = sigmoid(W_z x_t + b_z + R_z h_{t-1} + c_z)          the forget gate
    n   = tanh(W_n x_t + b_n + r * (R_n h_{t-1} + c_n))       the new value
    h_t = (1 - z) * n + z * h_{t-1}

    K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical
    machine translation", EMNLP 2014, in the form of torch.nn.GRU, whose reset gate acts after the
    recurrent matrix. Cho et al. call z the update gate; in this project the gate that multiplies
    what is remembered is always the forget gate. 1 - z acts as input gate, which has no bias of its
    own.
    """

    gates = ("reset", "forget", "new")

    def __init__(
        self, input_size: int, output_size: int, hidden_size: Size, num_layers: Count, init: Init
    ) -> None:
        super().__init__(nn.GRU(input_size, hidden_size, num_layers), output_size, init)

    def day(self, index: int, x_t: Tensor, before: State) -> State:
        """Step one layer by a day."""
        return gru_day(self.layer(index), x_t, before)


def gru_day(layer: Layer, x_t: Tensor, before: State) -> State:
    """Step one layer of an nn.GRU by a day; all tensors are (B, H)."""
    x_r, x_z, x_n = linear(x_t, layer.weight_ih, layer.bias_ih).chunk(3, dim=-1)
    h_r, h_z, h_n = linear(before["h"], layer.weight_hh, layer.bias_hh).chunk(3, dim=-1)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    a_n = x_n + r * h_n
    # sigmoid(-a) is 1 - z, but not 0 where z rounds to 1.
    h = sigmoid(-(x_z + h_z)) * tanh(a_n) + z * before["h"]
    return {"h": h, "reset": r, "forget": z, "tanh": a_n}
