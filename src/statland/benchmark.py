"""How fast the bench is: medians of repeated timings, and ratios taken in one run on one thread.

What is compared is timed in turns, so that a noisy machine disturbs all alike.
"""

import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from torch import Tensor, nn

from statland.batch import Batch
from statland.data.base import Market
from statland.models.base import SequenceModel, at_last_day
from statland.models.init import default
from statland.models.lstm import LSTM
from statland.models.rnn import RNN
from statland.models.rnn_cell import RNNCell
from statland.records.recorder import Recorder
from statland.training.build import build, prepare_process
from statland.training.run import Run

ROOT = Path(__file__).parents[2]

# (days, companies, units)
SHAPES = [(50, 32, 32), (200, 32, 64), (1000, 32, 64), (200, 64, 128), (1000, 16, 32)]
SHAPES += [(200, 128, 256)]

QUIET = Console(quiet=True)
CHOICES = {"model": "", "model/init": "", "data": "", "optimizer": ""}


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


class Replay(Market):
    """Batches drawn beforehand, over and over: the market's own cost is left out."""

    def __init__(self, market: Market, count: int) -> None:
        self.batches = [market.train_batch(step) for step in range(count)]
        self.held_out = market.validation()

    def train_batch(self, step: int) -> Batch:
        """The batch of a step."""
        return self.batches[step % len(self.batches)]

    def validation(self) -> list[Batch]:
        """The market's own validation."""
        return self.held_out


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
        for name, model in {
            "lstm": LSTM(1, 1, 32, 1, default),
            "rnn": RNN(1, 1, 32, 1, "tanh", default),
        }.items():
            both = {"padded": both_ways(model, batch), "packed": both_ways(Packed(model), batch)}
            ms = medians(both, seconds)
            rows.append(
                {"model": name, "days": days}
                | {f"{way} ms": value for way, value in ms.items()}
                | {"packed / padded": ms["packed"] / ms["padded"]}
            )
    return pd.DataFrame(rows)


def recorded_training(steps: int, rounds: int) -> pd.DataFrame:
    """A row a model: a step of training with all that is logged, and of a bare loop, on equal
    batches. Probes and figures are left out here.

    bare has the very optimizer of the config; plain Adam is torch.optim.Adam as it comes.
    """
    rows = []
    for name in ("rnn_cell", "rnn", "lstm"):
        ms: dict[str, list[float]] = {"recorded": [], "bare": [], "plain Adam": []}
        for _ in range(rounds):
            config = composed(f"model={name}", f"steps={steps}", "probe_every=null")
            market, model, optimizer = build(config, torch.device("cpu"))
            replay = Replay(market, 64)
            ms["recorded"].append(timed(recorded(config, replay, model, optimizer)) / steps)
            for loop in list(ms)[1:]:
                _, model, optimizer = build(config, torch.device("cpu"))
                if loop == "plain Adam":
                    optimizer = torch.optim.Adam(model.parameters(), lr=config.optimizer.lr)
                ms[loop].append(timed(bare(replay, model, optimizer, steps)) / steps)
        middle = {loop: statistics.median(values) for loop, values in ms.items()}
        rows.append(
            {"model": name}
            | {f"{loop} ms": value for loop, value in middle.items()}
            | {f"recorded / {loop}": middle["recorded"] / middle[loop] for loop in list(ms)[1:]}
        )
    return pd.DataFrame(rows)


def probing(seconds: float) -> pd.DataFrame:
    """A row a model and length: a measurement of the flow, recorded, and a training step.

    The last column is what probes add to training at the default probe_every.
    """
    rows = []
    for days in (50, 200, 1000):
        for name in ("rnn_cell", "rnn", "lstm"):
            config = composed(f"model={name}", f"data.max_days={days}", f"data.min_days={days}")
            market, model, optimizer = build(config, torch.device("cpu"))
            with tempfile.TemporaryDirectory() as folder, Recorder(Path(folder)) as recorder:
                run = Run(
                    dict(config), CHOICES, Replay(market, 1), model, optimizer, recorder, QUIET
                )
                both = {
                    "probe": lambda run=run: run.watch.probe(0),
                    "step": bare(run.market, model, optimizer, steps=1),
                }
                ms = medians(both, seconds)
            share = ms["probe"] / (config.probe_every * ms["step"])
            rows.append(
                {"model": name, "days": days}
                | {f"{what} ms": value for what, value in ms.items()}
                | {"with / without": 1 + share}
            )
    return pd.DataFrame(rows)


def start_up(rounds: int) -> pd.DataFrame:
    """From the command to the first recorded training step, against importing what it stands on."""
    imports = [sys.executable, "-c", "import torch, pandas, hydra"]
    ms: dict[str, list[float]] = {"first step": [], "imports": []}
    for _ in range(rounds):
        ms["first step"].append(timed(first_step))
        ms["imports"].append(timed(lambda: subprocess.run(imports, check=True)))
    middle = {name: statistics.median(values) for name, values in ms.items()}
    ratio = {"first step / imports": middle["first step"] / middle["imports"]}
    return pd.DataFrame([{f"{name} ms": value for name, value in middle.items()} | ratio])


def first_step() -> None:
    """Start train.py, wait until metrics.csv has a training step, and end it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "scripts/train.py"), "steps=1000000"]
        metrics = Path(folder) / "run" / "metrics.csv"
        with subprocess.Popen(
            [*command, f"hydra.run.dir={metrics.parent}"], stdout=subprocess.DEVNULL
        ) as process:
            while not metrics.exists() or "loss/train" not in metrics.read_text():
                if process.poll() is not None:
                    raise RuntimeError(f"{command} ended with status {process.returncode}")
                time.sleep(0.005)
            process.kill()


def peak_memory() -> pd.DataFrame:
    """What forward and backward at (1000, 32, 64) add to the peak memory of a fresh process."""
    code = "from statland.benchmark import peak; print(peak({!r}))"
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


def ragged(days: int, companies: int, youngest: int) -> Batch:
    """Random histories of youngest to `days` days."""
    lengths = torch.linspace(youngest, days, companies).round().long()
    return Batch(torch.randn(companies, days, 1), lengths, torch.randn(companies, 1))


def both_ways(model: nn.Module, batch: Batch) -> Callable[[], None]:
    """Forward and backward of one batch."""

    def step() -> None:
        model.zero_grad()
        nn.functional.mse_loss(model(batch.x, batch.lengths), batch.y).backward()

    return step


def recorded(
    config: Any, market: Market, model: SequenceModel, optimizer: torch.optim.Optimizer
) -> Callable[[], None]:
    """Training as a run does it, from the first step to the last, with all that it records."""

    def train() -> None:
        with tempfile.TemporaryDirectory() as folder, Recorder(Path(folder)) as recorder:
            Run(dict(config), CHOICES, market, model, optimizer, recorder, QUIET).train()

    return train


def bare(
    market: Market, model: SequenceModel, optimizer: torch.optim.Optimizer, steps: int
) -> Callable[[], None]:
    """Model, loss, backward, optimizer, and nothing else."""

    def train() -> None:
        for step in range(steps):
            x, lengths, y = market.train_batch(step)
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x, lengths), y).backward()
            optimizer.step()

    return train


def composed(*overrides: str) -> Any:
    """The config of train.py with these overrides."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", list(overrides))


def medians(steps: dict[str, Callable[[], None]], seconds: float) -> dict[str, float]:
    """Median milliseconds of each, timed in turns for about so many seconds in all."""
    for step in steps.values():
        step()
    ms: dict[str, list[float]] = {name: [] for name in steps}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(ms[next(iter(ms))]) < 5:
        for name, step in steps.items():
            ms[name].append(timed(step))
    return {name: statistics.median(values) for name, values in ms.items()}


def timed(step: Callable[[], Any]) -> float:
    """Milliseconds that one call takes."""
    start = time.perf_counter()
    step()
    return (time.perf_counter() - start) * 1e3


def geometric_mean(values: pd.Series) -> float:
    """The mean that suits ratios."""
    return math.exp(sum(math.log(value) for value in values) / len(values))
