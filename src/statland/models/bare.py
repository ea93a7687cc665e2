"""An nn.RNN, nn.LSTM or nn.GRU by itself, seen through the contract of base.py.

B companies, F features a day, H hidden units, S state size, L layers. The prediction is the top
layer's hidden state: K = H.
"""

import torch
from torch import Tensor, nn

from statland.models.base import RecurrentModel, last_layer

CELLS = {
    "RNN_TANH": torch.rnn_tanh_cell,
    "RNN_RELU": torch.rnn_relu_cell,
    "GRU": torch.gru_cell,
    "LSTM": torch.lstm_cell,
}


class Bare(RecurrentModel):
    """Steps the module's own weights a day at a time; its last output is the prediction.

    Raises ValueError for what has no one state to step: a bidirectional or projected module.
    """

    def __init__(self, module: nn.RNNBase) -> None:
        nn.Module.__init__(self)
        if module.bidirectional or module.proj_size:
            raise ValueError(f"{module} is bidirectional or projected: it has no one state to step")
        self.recurrence = module
        self.hidden_size, self.num_layers = module.hidden_size, module.num_layers
        self.parts = ("h", "c") if module.mode == "LSTM" else ("h",)

    def initial_state(self, batch_size: int) -> Tensor:
        """Zeros (B, S)."""
        return self.recurrence.weight_hh_l0.new_zeros(batch_size, self.state_size)

    def cell(self, x_t: Tensor, state: Tensor) -> Tensor:
        """One day: (B, F), (B, S) -> (B, S)."""
        one_day = CELLS[self.recurrence.mode]
        layers = zip(*(p.chunk(self.num_layers, 1) for p in self.split(state)), strict=True)
        below, after = x_t, []
        for before, weights in zip(layers, self.recurrence.all_weights, strict=True):
            stepped = one_day(below, before if len(before) > 1 else before[0], *weights)
            after.append(stepped if len(before) > 1 else (stepped,))
            below = after[-1][0]
        return torch.cat([layer for part in zip(*after, strict=True) for layer in part], dim=1)

    def readout(self, state: Tensor) -> Tensor:
        """The top hidden state (B, H)."""
        return last_layer(self.split(state)[0], self.hidden_size)

    def last_hidden(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Not needed: this model is stepped, never run."""
        raise NotImplementedError
