"""nn.LSTM, and its day written as equations.

B companies, H hidden units.
"""

from torch import Tensor, nn

from statland.models.activation import sigmoid, tanh
from statland.models.base import Layer, State
from statland.models.stacked import Init, StackedModel
from statland.settings import Count, Size


class LSTM(StackedModel):
    """torch.nn.LSTM on right-padded histories, read off at each company's own last day.

    i, f, o = sigmoid(W x_t + b + R h_{t-1}), each with its own rows of W, b and R
    g       = tanh(W x_t + b + R h_{t-1})
    c_t     = f * c_{t-1} + i * g        the long-term memory
    h_t     = o * tanh(c_t)              the short-term memory

    S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997), with
    the forget gate of F. Gers, J. Schmidhuber and F. Cummins, Neural Computation 12 (2000).
    """

    gates = ("input", "forget", "cell", "output")
    memory = ("h", "c")

    def __init__(
        self, input_size: int, output_size: int, hidden_size: Size, num_layers: Count, init: Init
    ) -> None:
        super().__init__(nn.LSTM(input_size, hidden_size, num_layers), output_size, init)

    def day(self, index: int, x_t: Tensor, before: State) -> State:
        """Step one layer by a day."""
        return lstm_day(self.layer(index), x_t, before)


def lstm_day(layer: Layer, x_t: Tensor, before: State) -> State:
    """Step one layer of an nn.LSTM by a day; all tensors are (B, H)."""
    a = layer.pre_activation(x_t, before["h"])
    i, f, _, o = sigmoid(a).chunk(4, dim=-1)  # one call is faster, though g is no gate
    g = tanh(a.chunk(4, dim=-1)[2])
    c = f * before["c"] + i * g
    return {"h": o * tanh(c), "c": c, "input": i, "forget": f, "output": o, "tanh": c}
