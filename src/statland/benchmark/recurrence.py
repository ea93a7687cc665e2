"""The hand-written recurrence against what PyTorch ships: time and memory, on one thread."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from statland.benchmark.timing import both_ways, medians, ragged
from statland.models.base import at_last_day
from statland.models.init import default
from statland.models.lstm import LSTM
from statland.models.rnn import RNN
from statland.models.rnn_cell import RNNCell
from statland.training.device import prepare_process

# (days, companies, units)
SHAPES = [(50, 32, 32), (200, 32, 64), (1000, 32, 64), (200, 64, 128), (1000, 16, 32)]
SHAPES += [(200, 128, 256)]


class Loop(nn.Module):
    """The plain loop over nn.RNNCell that a tutorial would write."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.cell, self.output = nn.RNNCell(1, units), nn.Linear(units, 1)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Right-padded x (B, T, 1) and lengths (B,) to predictions (B, 1)."""
        h, days = None, []
        for x_t in x.unbind(1):
            h = self.cell(x_t, h)
            days.append(h)
        return self.output(at_last_day(torch.stack(days), lengths))


class Packed(nn.Module):
    """The same model with a PackedSequence, as most tutorials handle ragged histories."""

    def __init__(self, model: RNN | LSTM) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Right-padded x (B, T, 1) and lengths (B,) to predictions (B, 1)."""
        packed = nn.utils.rnn.pack_padded_sequence(x.transpose(0, 1), lengths, enforce_sorted=False)
        days, _ = nn.utils.rnn.pad_packed_sequence(self.model.recurrence(packed)[0])
        return self.model.output(at_last_day(days, lengths))


def hand_written_rnn(seconds: float) -> pd.DataFrame:
    """A row a shape: forward and backward of rnn_cell, nn.RNN, and a loop over nn.RNNCell."""
    rows = []
    for days, companies, units in SHAPES:
        batch = ragged(days, companies, youngest=days)
        ours = RNNCell(1, 1, units, 1, "tanh", default)
        theirs = RNN(1, 1, units, 1, "tanh", default)
        theirs.load_state_dict(ours.state_dict())
        models = {"rnn_cell": ours, "nn.RNN": theirs, "loop": Loop(units)}
        ms = medians({name: both_ways(model, batch) for name, model in models.items()}, seconds)
        rows.append(
            {"days": days, "companies": companies, "units": units}
            | {f"{name} ms": value for name, value in ms.items()}
            | {f"ours / {name}": ms["rnn_cell"] / ms[name] for name in list(models)[1:]}
        )
    return pd.DataFrame(rows)


def padded_and_packed(seconds: float) -> pd.DataFrame:
    """A row a model and length: right-padded, and through pack_padded_sequence."""
    rows = []
    for days in (50, 200, 1000):
        batch = ragged(days, companies=32, youngest=days // 4)
        models: dict[str, RNN | LSTM] = {
            "lstm": LSTM(1, 1, 32, 1, default),
            "rnn": RNN(1, 1, 32, 1, "tanh", default),
        }
        for name, model in models.items():
            both = {"padded": both_ways(model, batch), "packed": both_ways(Packed(model), batch)}
            ms = medians(both, seconds)
            rows.append(
                {"model": name, "days": days}
                | {f"{way} ms": value for way, value in ms.items()}
                | {"packed / padded": ms["packed"] / ms["padded"]}
            )
    return pd.DataFrame(rows)


def peak_memory() -> pd.DataFrame:
    """What forward and backward at (1000, 32, 64) add to the peak memory of a fresh process."""
    code = "from statland.benchmark.recurrence import peak; print(peak({!r}))"
    added = {}
    for name in ("rnn_cell", "nn.RNN"):
        command = [sys.executable, "-c", code.format(name)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        added[name] = float(printed)
    columns = {f"{name} MiB": value for name, value in added.items()}
    return pd.DataFrame([columns | {"ratio": added["rnn_cell"] / added["nn.RNN"]}])


def peak(name: str) -> float:
    """MiB that three training steps at (1000, 32, 64) add to this process's peak memory."""
    prepare_process(1)
    model = {"rnn_cell": RNNCell, "nn.RNN": RNN}[name](1, 1, 64, 1, "tanh", default)
    both_ways(model, ragged(2, 32, youngest=2))()
    step = both_ways(model, ragged(1000, 32, youngest=1000))
    before = high_water()
    for _ in range(3):
        step()
    return high_water() - before


def high_water() -> float:
    """Peak memory of this process so far, in MiB. Linux counts it anew for every program."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("peak memory is read from /proc/self/status, which only Linux has")
