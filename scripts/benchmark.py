"""Time the bench against the plain PyTorch that it replaces; print tables and write one CSV file.

Everything runs on one thread, with subnormal numbers counted as 0, as in training. What is compared
is timed in turns, so that noise hits all alike: only ratios of one run mean anything.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.benchmark import Timer

from statland.command.compose import plain
from statland.gradients.probe import measure, measure_in_full, probe_batch
from statland.models.base import at_last_day
from statland.records.identity import Identity
from statland.records.recorder import Recorder
from statland.training.build import Built, build
from statland.training.config import Settings, check, without_machine
from statland.training.device import prepare_process
from statland.training.run import Prepared, Run
from statland.training.watch import GradientWatch, is_due

ROOT, CPU, QUIET = Path(__file__).parents[1], torch.device("cpu"), Console(quiet=True)
IMPORTS = partial(subprocess.run, [sys.executable, "-c", "import torch, pandas, hydra"], check=True)

SHAPES = [(50, 32, 32), (200, 32, 64), (1000, 32, 64), (200, 64, 128), (1000, 16, 32)]
SHAPES += [(200, 128, 256)]  # (days, companies, units)

Rows = Iterator[dict[str, Any]]
Steps = dict[str, Callable[[], object]]


def hand_written_rnn(scale: float) -> Rows:
    """Hand-written RNN, forward and backward"""

    def loop(model: Any, x: Tensor, lengths: Tensor) -> Tensor:  # as a tutorial would write it
        states = [model["cell"](x[:, 0])]
        for x_t in x.unbind(1)[1:]:
            states.append(model["cell"](x_t, states[-1]))
        return model["output"](at_last_day(torch.stack(states), lengths))

    for days, companies, units in SHAPES:
        parts = nn.ModuleDict({"cell": nn.RNNCell(1, units), "output": nn.Linear(units, 1)})
        steps = {"rnn_cell": both_ways(model_of("rnn_cell", units), days, companies)}
        steps["nn.RNN"] = both_ways(model_of("rnn", units), days, companies)
        steps["loop"] = both_ways(parts, days, companies, forward=loop)
        ratios = "rnn_cell / nn.RNN", "rnn_cell / loop"
        yield row(medians(steps, 10 * scale), *ratios, days=days, companies=companies, units=units)


def padded_and_packed(scale: float) -> Rows:
    """Ragged histories, forward and backward"""

    def packed(model: Any, x: Tensor, lengths: Tensor) -> Tensor:  # as most tutorials do
        x = nn.utils.rnn.pack_padded_sequence(x.transpose(0, 1), lengths, enforce_sorted=False)
        states, _ = nn.utils.rnn.pad_packed_sequence(model.recurrence(x)[0])
        return model.output(at_last_day(states, lengths))

    for days, name in itertools.product((50, 200, 1000), ("lstm", "rnn")):
        padded = partial(both_ways, model_of(name, 32), days, 32, youngest=days // 4)
        steps = {"padded": padded(), "packed": padded(forward=packed)}
        yield row(medians(steps, 5 * scale), "packed / padded", model=name, days=days)


def families(scale: float) -> Rows:
    """Families, forward and backward, 32 companies, 64 units"""
    paths = sorted((ROOT / "configs/model").glob("*.yaml"))
    names = [path.stem for path in paths if "\n_target_:" in path.read_text()]
    for days in (200, 1000):
        ms = medians({n: both_ways(model_of(n, 64), days, 32) for n in names}, 20 * scale)
        for name in names:
            fused = {f"/ nn.{of.upper()}": ms[name] / ms[of] for of in ("rnn", "lstm", "gru")}
            yield {"model": name, "days": days, "ms": ms[name]} | fused


def last_day_alone(scale: float) -> Rows:
    """The last day alone and every day, forward and backward, sizes of experiment=families"""

    def read_off(model: Any, x: Tensor, lengths: Tensor) -> Tensor:
        return at_last_day(model.every_day(x).transpose(0, 1), lengths)

    for name, days in itertools.product(("tcn", "transformer", "gated_deltanet"), (100, 400)):
        model = prepared("experiment=families", f"model={name}")[1].model
        steps = {"last day": both_ways(model, days, 32)}
        steps["every day"] = both_ways(model, days, 32, forward=read_off)
        yield row(medians(steps, 5 * scale), "last day / every day", model=name, days=days)


def recorded_training(scale: float) -> Rows:
    """One training step with all that is logged but probes, 50 days, 32 units"""

    def recorded(settings: Settings, made: Built) -> None:
        with tempfile.TemporaryDirectory() as folder, Recorder(Path(folder)) as recorder:
            choices = dict.fromkeys(("model", "model/init", "data", "optimizer"), "")
            identity = Identity(without_machine(settings), {}, choices)
            Run(Prepared(settings, identity, made), recorder, QUIET).train()

    for name in ("rnn_cell", "rnn", "lstm"):
        settings, made = prepared(f"model={name}", "steps=1000", "probe_every=null")
        steps = {"recorded": partial(recorded, settings, made), "bare": partial(bare, made, 1000)}
        ms = {way: value / 1000 for way, value in medians(steps, 30 * scale).items()}
        yield row(ms, "recorded / bare", model=name)


def probing(scale: float) -> Rows:
    """Probes, and what is measured before and after, as a share of a default run's training"""
    for days, name in itertools.product((50, 200, 1000), ("rnn_cell", "rnn", "lstm")):
        ages = f"data.max_days={days}", f"data.min_days={days}"
        settings, made = prepared(f"model={name}", *ages)
        steps, every = settings["steps"], settings["probe_every"]
        with tempfile.TemporaryDirectory() as folder, Recorder(Path(folder)) as recorder:
            batch = probe_batch(made.market.validation())
            seen = made.model, batch, made.market.answer(batch)
            watch = GradientWatch(name, *seen, None, recorder, QUIET, every)
            parts: Steps = {"probe": partial(watch.probe, 0)}
            parts["in full"] = partial(measure_in_full, *seen, measure(*seen))
            ms = medians(parts | {"step": partial(bare, made, 1)}, 2 * scale)
        probes = sum(is_due(updates, every) for updates in range(steps + 1))
        extra = probes * ms["probe"] + 2 * ms["in full"]
        yield row(ms, model=name, days=days) | {"with / without": 1 + extra / (steps * ms["step"])}


def whole_command(scale: float) -> Rows:
    """Start-up to the first recorded step, and the command as a whole, recorded and drawn"""

    def train(name: str, *first_step_of: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            metrics = Path(folder) / "run/metrics.csv"
            line = [sys.executable, str(ROOT / "scripts/train.py"), f"model={name}"]
            line += [f"hydra.run.dir={metrics.parent}", *first_step_of]
            with subprocess.Popen(line, stdout=subprocess.DEVNULL) as process:
                while process.poll() is None:
                    time.sleep(0.005)
                    if first_step_of and metrics.exists() and "loss/train" in metrics.read_text():
                        process.kill()
                        return
        assert process.returncode == 0, line

    for name in ("rnn_cell", "lstm"):
        settings, made = prepared(f"model={name}")
        steps: Steps = {"first step": partial(train, name, "steps=1000000"), "imports": IMPORTS}
        steps["command"] = partial(train, name)
        steps["bare steps"] = partial(bare, made, settings["steps"])
        ms = medians(steps, 60 * scale)
        ms["parts"] = ms["imports"] + ms["bare steps"]
        yield row(ms, "first step / imports", "command / parts", model=name)


def bare(made: Built, steps: int) -> None:
    """Train: model, loss, backward, optimizer, and nothing else."""
    for index in range(steps):
        x, lengths, y = made.market.train_batch(index)
        made.optimizer.zero_grad()
        mse_loss(made.model(x, lengths), y).backward()
        made.optimizer.step()


def prepared(*overrides: str) -> tuple[Settings, Built]:
    """Build a run by overrides of train.py; its market repeats 64 batches, so it costs no time."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        settings = check(plain(compose("train", list(overrides))))
    made = build(settings, CPU)
    batches = [made.market.train_batch(index) for index in range(64)]
    vars(made.market)["train_batch"] = lambda index: batches[index % 64]
    return settings, made


def model_of(name: str, units: int) -> Any:
    """Build a model of configs/model with one input and one output."""
    width = "channels" if name == "tcn" else "hidden_size"
    return prepared(f"model={name}", f"model.{width}={units}")[1].model


def both_ways(model: Any, days: int, companies: int, youngest: int = 0, forward: Any = None) -> Any:
    """Return forward and backward of histories of `youngest` days, by default `days`, to `days`."""
    lengths = torch.linspace(youngest or days, days, companies).round().long()
    x, y = torch.randn(companies, days, 1), torch.randn(companies, 1)
    predict = partial(forward, model) if forward else model
    return lambda: (model.zero_grad(), mse_loss(predict(x, lengths), y).backward())


def medians(steps: Steps, seconds: float) -> dict[str, float]:
    """Median milliseconds of each step, timed in turns for about so many seconds in all."""
    timers = {name: Timer("step()", globals={"step": step}) for name, step in steps.items()}
    ms: dict[str, list[float]] = {name: [] for name in steps}
    end = time.perf_counter() + seconds
    while not all(ms.values()) or time.perf_counter() < end:
        for name, timer in timers.items():
            ms[name].append(1e3 * timer.blocked_autorange(min_run_time=0.02).median)
    return {name: float(np.median(values)) for name, values in ms.items()}


def row(ms: dict[str, float], *ratios: str, **labels: object) -> dict[str, Any]:
    """Return labels, what was measured, and ratios of it such as "a / b"."""
    values = {r: ms[r.partition(" / ")[0]] / ms[r.partition(" / ")[2]] for r in ratios}
    return labels | {f"{name} ms": value for name, value in ms.items()} | values


def main() -> None:
    """Parse the command line, print the tables, write the CSV file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("benchmark.csv"), help="the CSV file")
    parser.add_argument("--scale", type=float, default=1.0, help="below 1: shorter, noisier")
    parser.add_argument("--only", default="", help="only tables whose title contains this")
    arguments = parser.parse_args()
    chosen = {f.__doc__: f for f in TABLES if arguments.only.lower() in f.__doc__.lower()}
    if not chosen:
        parser.exit(2, f"error: no title contains --only {arguments.only!r}\n")
    prepare_process(threads=1)
    tables = []
    for title, rows in chosen.items():
        frame = pd.DataFrame(list(rows(arguments.scale)))
        tables.append(frame.melt(ignore_index=False, var_name="column").assign(table=title))
        if len(frame) > 1:
            frame.loc["geometric mean"] = np.exp(np.log(frame.filter(like="/ ")).mean())
        print(f"{title}\n{frame.to_string(na_rep='', float_format='{:.4g}'.format)}\n", flush=True)
    pd.concat(tables).to_csv(arguments.output, index_label="row")
    print(f"written to {arguments.output}")


TABLES = (hand_written_rnn, padded_and_packed, families, last_day_alone, recorded_training)
TABLES += (probing, whole_command)

if __name__ == "__main__":
    main()
