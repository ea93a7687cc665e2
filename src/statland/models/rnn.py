"""nn.RNN: the weights and the equations of rnn_cell.py, all days run by PyTorch's own kernels."""

from typing import Literal

from torch import nn

from statland.models.rnn_cell import ElmanModel
from statland.models.stacked import Init
from statland.settings import Count, Size


class RNN(ElmanModel):
    """torch.nn.RNN on right-padded histories, read off at each company's own last day."""

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: Size,
        num_layers: Count,
        nonlinearity: Literal["tanh", "relu"],
        init: Init,
    ) -> None:
        recurrence = nn.RNN(input_size, hidden_size, num_layers, nonlinearity=nonlinearity)
        super().__init__(recurrence, output_size, init)
