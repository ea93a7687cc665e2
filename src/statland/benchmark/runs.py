"""What it costs to record a run: a step, the probes, the start, the command as a whole."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console
from torch import nn

from statland.batch import Batch
from statland.benchmark.timing import medians, timed
from statland.data.base import Market
from statland.gradients.probe import largest_lyapunov_exponents, measure, weight_contributions
from statland.models.base import SequenceModel
from statland.records.identity import Identity
from statland.records.recorder import Recorder
from statland.training.build import Built, build
from statland.training.config import Settings, check, without_machine
from statland.training.run import Run
from statland.training.watch import GradientWatch, is_due

ROOT = Path(__file__).parents[3]

QUIET = Console(quiet=True)
CHOICES = {"model": "", "model/init": "", "data": "", "optimizer": ""}
IMPORTS = [sys.executable, "-c", "import torch, pandas, hydra"]


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


def recorded_training(steps: int, rounds: int) -> pd.DataFrame:
    """A row a model: a step of training with all that is logged, and of a bare loop, on equal
    batches. Probes and figures are left out here.

    bare has the very optimizer of the config; plain Adam is torch.optim.Adam as it comes.
    """
    rows = []
    for name in ("rnn_cell", "rnn", "lstm"):
        ms: dict[str, list[float]] = {"recorded": [], "bare": [], "plain Adam": []}
        for _ in range(rounds):
            settings = composed(f"model={name}", f"steps={steps}", "probe_every=null")
            market, model, optimizer = build(settings, torch.device("cpu"))
            replay = Replay(market, 64)
            ms["recorded"].append(timed(recorded(settings, replay, model, optimizer)) / steps)
            for loop in list(ms)[1:]:
                _, model, optimizer = build(settings, torch.device("cpu"))
                if loop == "plain Adam":
                    optimizer = torch.optim.Adam(model.parameters(), lr=settings["optimizer"]["lr"])
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

    The last column is what it adds to a default run: a probe at every step that has one, and before
    and after training the Lyapunov exponents and what each day adds to the weights. Figures are
    left out here.
    """
    rows = []
    for days in (50, 200, 1000):
        for name in ("rnn_cell", "rnn", "lstm"):
            settings = composed(f"model={name}", f"data.max_days={days}", f"data.min_days={days}")
            steps, every = settings["steps"], settings["probe_every"]
            market, model, optimizer = build(settings, torch.device("cpu"))
            with tempfile.TemporaryDirectory() as folder, Recorder(Path(folder)) as recorder:
                held_out = market.validation()
                watch = GradientWatch(name, model, held_out, None, recorder, QUIET, every)
                flow = measure(model, watch.batch).flow
                parts: dict[str, Callable[[], object]] = {
                    "probe": partial(watch.probe, 0),
                    "weights": partial(weight_contributions, model, watch.batch, flow),
                    "exponents": partial(largest_lyapunov_exponents, model, watch.batch),
                    "step": bare(Replay(market, 1), model, optimizer, steps=1),
                }
                ms = medians(parts, seconds)
            probes = sum(is_due(updates, every) for updates in range(steps + 1))
            twice = 2 * (ms["exponents"] + ms["weights"])
            share = (probes * ms["probe"] + twice) / (steps * ms["step"])
            rows.append(
                {"model": name, "days": days}
                | {f"{part} ms": value for part, value in ms.items()}
                | {"with / without": 1 + share}
            )
    return pd.DataFrame(rows)


def start_up(rounds: int) -> pd.DataFrame:
    """From the command to the first recorded training step, against importing what it stands on."""
    ms: dict[str, list[float]] = {"first step": [], "imports": []}
    for _ in range(rounds):
        ms["first step"].append(timed(first_step))
        ms["imports"].append(timed(lambda: subprocess.run(IMPORTS, check=True)))
    middle = {name: statistics.median(values) for name, values in ms.items()}
    ratio = {"first step / imports": middle["first step"] / middle["imports"]}
    return pd.DataFrame([{f"{name} ms": value for name, value in middle.items()} | ratio])


def whole_command(rounds: int) -> pd.DataFrame:
    """A row a model: train.py from start to end, all recorded and drawn, against its parts.

    The parts are the imports (torch, pandas, hydra) and 2000 steps of a bare loop.
    """
    rows = []
    for name in ("rnn_cell", "lstm"):
        ms: dict[str, list[float]] = {"command": [], "imports": [], "bare steps": []}
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                script = str(ROOT / "scripts/train.py")
                command = [sys.executable, script, f"model={name}", f"hydra.run.dir={folder}/run"]
                quiet = partial(subprocess.run, check=True, stdout=subprocess.DEVNULL)
                ms["command"].append(timed(partial(quiet, command)))
            ms["imports"].append(timed(partial(subprocess.run, IMPORTS, check=True)))
            settings = composed(f"model={name}")
            market, model, optimizer = build(settings, torch.device("cpu"))
            ms["bare steps"].append(timed(bare(market, model, optimizer, settings["steps"])))
        middle = {part: statistics.median(values) for part, values in ms.items()}
        ratio = middle["command"] / (middle["imports"] + middle["bare steps"])
        rows.append(
            {"model": name}
            | {f"{part} ms": value for part, value in middle.items()}
            | {"command / parts": ratio}
        )
    return pd.DataFrame(rows)


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


def recorded(
    settings: Settings, market: Market, model: SequenceModel, optimizer: torch.optim.Optimizer
) -> Callable[[], None]:
    """Training as a run does it, from the first step to the last, with all that it records."""

    def train() -> None:
        with tempfile.TemporaryDirectory() as folder, Recorder(Path(folder)) as recorder:
            identity = Identity(without_machine(settings), {}, CHOICES)
            built = Built(market, model, optimizer)
            Run(settings, identity, built, recorder, QUIET, asked=()).train()

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


def composed(*overrides: str) -> Settings:
    """The settings of train.py with these overrides."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        values = OmegaConf.to_container(compose("train", list(overrides)), resolve=True)
    assert isinstance(values, dict)
    return check({str(key): value for key, value in values.items() if key != "for_model"})
