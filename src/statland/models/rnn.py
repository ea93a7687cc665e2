"""nn.RNN: the weights and the day of rnn_cell.py, all days run by PyTorch's own kernels."""

from torch import nn

from statland.models.rnn_cell import RNNCell
from statland.models.stacked import StackedModel


class RNN(RNNCell):
    """torch.nn.RNN on right-padded histories, read off at each company's own last day."""

    nonlinearities = ("tanh", "relu")

    @staticmethod
    def build(input_size: int, hidden_size: int, num_layers: int, nonlinearity: str) -> nn.Module:
        """An nn.RNN, time-major."""
        return nn.RNN(input_size, hidden_size, num_layers, nonlinearity=nonlinearity)

    last_hidden = StackedModel.last_hidden  # not by hand, as rnn_cell
