"""nn.RNN: the weights and the day of rnn_cell.py, all days run by PyTorch's own kernels."""

from torch import Tensor, nn

from statland.models.base import at_last_day
from statland.models.rnn_cell import RNNCell


class RNN(RNNCell):
    """torch.nn.RNN on right-padded histories, read off at each company's own last day."""

    nonlinearities = ("tanh", "relu")

    @staticmethod
    def build(input_size: int, hidden_size: int, num_layers: int, nonlinearity: str) -> nn.Module:
        """An nn.RNN, time-major."""
        return nn.RNN(input_size, hidden_size, num_layers, nonlinearity=nonlinearity)

    def last_hidden(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The top hidden state (B, H) after each company's own last day."""
        days, _ = self.recurrence(x.transpose(0, 1))  # (T, B, H)
        return at_last_day(days, lengths)
