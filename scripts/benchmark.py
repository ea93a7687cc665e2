"""Time the bench against the plain PyTorch that it replaces; print tables and write one CSV file.

Everything runs on one thread, with subnormal numbers counted as 0, as in training. What is compared
is timed in turns, so that noise hits all alike: only ratios of one run mean anything.
"""

import argparse
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console
from torch import Tensor, nn
from torch.linalg import matrix_exp
from torch.nn.functional import mse_loss
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.benchmark import Timer

from statland.batch import Batch
from statland.gradients.probe import largest_lyapunov_exponents, measure
from statland.gradients.probe import weight_contributions as weight_contributions
from statland.models.base import at_last_day
from statland.models.linear_recurrence import linear_recurrence
from statland.records.identity import Identity
from statland.records.recorder import Recorder
from statland.training.build import Built, build
from statland.training.config import Settings, check, without_machine
from statland.training.device import prepare_process
from statland.training.run import Run
from statland.training.watch import GradientWatch, is_due

ROOT, CPU, QUIET = Path(__file__).parents[1], torch.device("cpu"), Console(quiet=True)
TRAIN = [sys.executable, str(ROOT / "scripts/train.py")]
IMPORTS = partial(subprocess.run, [sys.executable, "-c", "import torch, pandas, hydra"], check=True)
CHOICES = dict.fromkeys(("model", "model/init", "data", "optimizer"), "")

SHAPES = [(50, 32, 32), (200, 32, 64), (1000, 32, 64), (200, 64, 128), (1000, 16, 32)]
SHAPES += [(200, 128, 256)]  # (days, companies, units)

Row = dict[str, Any]
Steps = dict[str, Callable[[], object]]


def composed(*overrides: str) -> Settings:
    """Return the settings of train.py with these overrides."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        values: Any = OmegaConf.to_container(compose("train", list(overrides)), resolve=True)
    return check({key: value for key, value in values.items() if key != "for_model"})


def model_of(name: str, units: int) -> Any:
    """Build a model of configs/model with one input and one output."""
    width = "channels" if name == "tcn" else "hidden_size"
    return build(composed(f"model={name}", f"model.{width}={units}"), CPU).model


def ragged(days: int, companies: int, youngest: int) -> Batch:
    """Draw random histories of `youngest` to `days` days."""
    lengths = torch.linspace(youngest, days, companies).round().long()
    return Batch(torch.randn(companies, days, 1), lengths, torch.randn(companies, 1))


def both_ways(model: nn.Module, batch: Batch, forward: Any = None) -> Callable[[], object]:
    """Return forward and backward of one batch, by another `forward` than the model's if given."""
    weights = list(model.parameters())
    return lambda: torch.autograd.grad(
        mse_loss((forward or model)(batch.x, batch.lengths), batch.y), weights, allow_unused=True
    )


def medians(steps: Steps, seconds: float) -> dict[str, float]:
    """Return the median milliseconds of each step, in turns for about so many seconds in all."""
    timers = {name: Timer("step()", globals={"step": step}) for name, step in steps.items()}
    calls = {name: max(1, int(0.02 / timer.timeit(1).mean)) for name, timer in timers.items()}
    ms: dict[str, list[float]] = {name: [] for name in steps}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or any(len(values) < 3 for values in ms.values()):
        for name, timer in timers.items():
            ms[name].append(1e3 * timer.timeit(calls[name]).mean)
    return {name: median(values) for name, values in ms.items()}


def medians_of_long(steps: Steps, rounds: float) -> dict[str, float]:
    """Return the median milliseconds of steps too long to be warmed up, in turns."""
    ms: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(max(1, round(rounds))):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            ms[name].append(1e3 * (time.perf_counter() - start))
    return {name: median(values) for name, values in ms.items()}


def row(ms: dict[str, float], *ratios: str, **labels: object) -> Row:
    """Return labels, times and ratios such as "a / b + c", of the times of these names."""
    sums = [[sum(ms[n] for n in side.split(" + ")) for side in r.split(" / ")] for r in ratios]
    values = {ratio: over / under for ratio, (over, under) in zip(ratios, sums, strict=True)}
    return labels | {f"{name} ms": value for name, value in ms.items()} | values


def hand_written_rnn(scale: float) -> Iterator[Row]:
    """Compare rnn_cell, nn.RNN and a loop over nn.RNNCell."""
    for days, companies, units in SHAPES:
        batch, ours, theirs = ragged(days, companies, days), *map(model_of, RNNS, [units] * 2)
        theirs.load_state_dict(ours.state_dict())
        cell, output = nn.RNNCell(1, units), nn.Linear(units, 1)

        def loop(x: Tensor, lengths: Tensor, cell: Any = cell, output: Any = output) -> Tensor:
            states = [cell(x[:, 0])]
            for x_t in x.unbind(1)[1:]:
                states.append(cell(x_t, states[-1]))
            return output(at_last_day(torch.stack(states), lengths))

        steps = {"rnn_cell": both_ways(ours, batch), "nn.RNN": both_ways(theirs, batch)}
        steps["loop"] = both_ways(nn.ModuleList([cell, output]), batch, loop)
        ratios = "rnn_cell / nn.RNN", "rnn_cell / loop"
        yield row(medians(steps, 10 * scale), *ratios, days=days, companies=companies, units=units)


RNNS = ("rnn_cell", "rnn")


def padded_and_packed(scale: float) -> Iterator[Row]:
    """Compare right-padded batches with pack_padded_sequence."""
    for days in (50, 200, 1000):
        for name in ("lstm", "rnn"):
            batch, model = ragged(days, 32, days // 4), model_of(name, 32)

            def forward(x: Tensor, lengths: Tensor, model: Any = model) -> Tensor:
                packed = pack_padded_sequence(x.transpose(0, 1), lengths, enforce_sorted=False)
                states, _ = pad_packed_sequence(model.recurrence(packed)[0])
                return model.output(at_last_day(states, lengths))

            steps = {"padded": both_ways(model, batch), "packed": both_ways(model, batch, forward)}
            yield row(medians(steps, 5 * scale), "packed / padded", model=name, days=days)


def families(scale: float) -> Iterator[Row]:
    """Compare every model that is no variant of another with PyTorch's fused modules.

    exprnn is also compared with rnn_orthogonal, whose gradient does not vanish either, plus a
    matrix exponential.
    """
    paths = sorted((ROOT / "configs/model").glob("*.yaml"))
    names = [path.stem for path in paths if "\n_target_:" in path.read_text()]
    matrix = torch.randn(64, 64, requires_grad=True)
    for days in (200, 1000):
        models = {name: model_of(name, 64) for name in [*names, "rnn_orthogonal"]}
        steps = {n: both_ways(model, ragged(days, 32, days)) for n, model in models.items()}
        ms = medians(
            steps | {"exp": lambda: matrix_exp(matrix - matrix.T).sum().backward()}, 20 * scale
        )
        parts = {"exprnn": ms["rnn_orthogonal"] + ms["exp"]}
        for name in names:
            fused = {
                f"/ nn.{other.upper()}": ms[name] / ms[other] for other in ("rnn", "lstm", "gru")
            }
            expected = {"/ (rnn + exp)": ms[name] / parts.get(name, np.nan)}
            yield {"model": name, "days": days, "ms": ms[name]} | fused | expected


def sweeps(scale: float) -> Iterator[Row]:
    """Compare h_t = a_t h_{t-1} + b_t, forward and backward, by hand and by autograd."""

    def loop(a: Tensor, b: Tensor) -> Tensor:
        states = [b[0]]
        for a_t, b_t in zip(a[1:].unbind(0), b[1:].unbind(0), strict=True):
            states.append(a_t * states[-1] + b_t)
        return torch.stack(states)

    for days in (200, 1000):
        for dtype in (torch.float32, torch.complex64):
            a, b = (torch.rand(2, days, 32, 64, dtype=dtype) / 2).requires_grad_().unbind(0)

            def both(sweep: Any, a: Tensor = a, b: Tensor = b) -> object:
                return torch.autograd.grad(sweep(a, b), (a, b), torch.ones_like(b))

            steps = {"by hand": partial(both, linear_recurrence), "autograd": partial(both, loop)}
            ms = medians(steps, 3 * scale)
            yield row(ms, "by hand / autograd", numbers=str(dtype)[6:], days=days)


def bare(market: Any, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Train: model, loss, backward, optimizer, and nothing else."""
    for step in range(steps):
        x, lengths, y = market.train_batch(step)
        optimizer.zero_grad()
        mse_loss(model(x, lengths), y).backward()
        optimizer.step()


def recorded_training(scale: float) -> Iterator[Row]:
    """Compare 1000 steps with all that is logged, but for probes and figures, with bare ones.

    bare has the optimizer of the config; plain Adam is torch.optim.Adam. Batches are drawn before.
    """
    for name in ("rnn_cell", "rnn", "lstm"):
        settings = composed(f"model={name}", "steps=1000", "probe_every=null")
        batches = [build(settings, CPU).market.train_batch(step) for step in range(64)]

        def train(way: str, settings: Settings = settings, batches: Any = batches) -> None:
            market, model, optimizer = build(settings, CPU)
            market.train_batch = lambda step: batches[step % 64]  # type: ignore[method-assign]
            if way == "recorded":
                with tempfile.TemporaryDirectory() as folder, Recorder(Path(folder)) as recorder:
                    identity = Identity(without_machine(settings), {}, CHOICES)
                    made = Built(market, model, optimizer)
                    Run(settings, identity, made, recorder, QUIET, asked=()).train()
            elif way == "plain Adam":
                bare(market, model, torch.optim.Adam(model.parameters(), lr=1e-3), 1000)
            else:
                bare(market, model, optimizer, 1000)

        ways = {way: partial(train, way) for way in ("recorded", "bare", "plain Adam")}
        ms = {way: value / 1000 for way, value in medians_of_long(ways, 7 * scale).items()}
        yield row(ms, "recorded / bare", "recorded / plain Adam", model=name)


def probing(scale: float) -> Iterator[Row]:
    """Measure what a default run does besides training, figures left out, as a share of it."""
    for days in (50, 200, 1000):
        for name in ("rnn_cell", "rnn", "lstm"):
            settings = composed(f"model={name}", f"data.max_days={days}", f"data.min_days={days}")
            steps, every = settings["steps"], settings["probe_every"]
            market, model, optimizer = build(settings, CPU)
            batch, held_out = market.train_batch(0), market.validation()
            market.train_batch = lambda step, batch=batch: batch  # type: ignore[method-assign]
            with tempfile.TemporaryDirectory() as folder, Recorder(Path(folder)) as recorder:
                watch = GradientWatch(name, model, held_out, None, recorder, QUIET, every, steps)
                flow = measure(model, watch.batch).flow
                parts: Steps = {
                    "probe": partial(watch.probe, 0),
                    "weights": partial(weight_contributions, model, watch.batch, flow),
                    "exponents": partial(largest_lyapunov_exponents, model, watch.batch),
                    "step": partial(bare, market, model, optimizer, 1),
                }
                ms = medians(parts, 2 * scale)
            probes = sum(is_due(updates, every) for updates in range(steps + 1))
            extra = probes * ms["probe"] + 2 * (ms["exponents"] + ms["weights"])
            share = {"with / without": 1 + extra / (steps * ms["step"])}
            yield row(ms, model=name, days=days) | share


def first_step() -> None:
    """Start train.py, wait until metrics.csv has a training step, and end it."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder) / "run/metrics.csv"
        command = [*TRAIN, "steps=1000000", f"hydra.run.dir={metrics.parent}"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            while not metrics.exists() or "loss/train" not in metrics.read_text():
                if process.poll() is not None:
                    raise RuntimeError(f"{command} ended with status {process.returncode}")
                time.sleep(0.005)
            process.kill()


def start_up(scale: float) -> Iterator[Row]:
    """Compare the command up to its first recorded step with the imports that it stands on."""
    ms = medians_of_long({"first step": first_step, "imports": IMPORTS}, 5 * scale)
    yield row(ms, "first step / imports")


def whole_command(scale: float) -> Iterator[Row]:
    """Compare train.py from start to end with its parts: imports and as many bare steps."""

    def command(name: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            line = [*TRAIN, f"model={name}", f"hydra.run.dir={folder}/run"]
            subprocess.run(line, check=True, stdout=subprocess.DEVNULL)

    for name in ("rnn_cell", "lstm"):
        settings = composed(f"model={name}")
        steps: Steps = {"command": partial(command, name), "imports": IMPORTS}
        steps["bare steps"] = partial(bare, *build(settings, CPU), settings["steps"])  # type: ignore
        ms = medians_of_long(steps, 3 * scale)
        yield row(ms, "command / imports + bare steps", model=name)


def peak(name: str) -> float:
    """Return the MiB that steps at (1000, 32, 64) add to this process's peak memory (Linux)."""
    prepare_process(threads=1)
    model, status = model_of(name, 64), Path("/proc/self/status")
    both_ways(model, ragged(2, 32, 2))()
    peaks = []
    for step in (lambda: None, *[both_ways(model, ragged(1000, 32, 1000))] * 3):
        step()
        peaks.append(int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024)
    return peaks[-1] - peaks[0]


def peak_memory(scale: float) -> Iterator[Row]:
    """Compare the memory of forward and backward, each model in a process of its own."""
    mib = {}
    for name in RNNS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            mib[name] = pool.apply(peak, (name,))
    yield {f"{n} MiB": mib[n] for n in RNNS} | {"rnn_cell / rnn": mib["rnn_cell"] / mib["rnn"]}


TABLES: dict[str, Callable[[float], Iterator[Row]]] = {
    "hand-written RNN, forward and backward": hand_written_rnn,
    "ragged histories, forward and backward": padded_and_packed,
    "families, forward and backward, 32 companies, 64 units": families,
    "h_t = a_t h_{t-1} + b_t, 32 companies, 64 units": sweeps,
    "one training step, 50 days, 32 companies, 32 units": recorded_training,
    "probes, 32 companies, 32 units, of a default run": probing,
    "start-up": start_up,
    "the command, from start to end, all recorded and drawn": whole_command,
    "peak memory at 1000 days, 32 companies, 64 units": peak_memory,
}


def main() -> None:
    """Parse the command line, print the tables, write the CSV file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("benchmark.csv"), help="the CSV file")
    parser.add_argument("--scale", type=float, default=1.0, help="below 1: shorter, noisier")
    parser.add_argument("--only", default="", help="only tables whose title contains this")
    arguments = parser.parse_args()
    chosen = {title: rows for title, rows in TABLES.items() if arguments.only in title}
    if not chosen:
        print(f"error: no title contains --only {arguments.only!r}", file=sys.stderr)
        sys.exit(2)
    prepare_process(threads=1)
    tables = []
    for title, rows in chosen.items():
        frame = pd.DataFrame(list(rows(arguments.scale)))
        tables.append(frame.melt(ignore_index=False, var_name="column").assign(table=title))
        if len(frame) > 1:
            ratios = [name for name in frame.columns if "/ " in name]
            frame.loc["geometric mean"] = np.exp(np.log(frame[ratios]).mean())
        print(f"{title}\n{frame.to_string(na_rep='', float_format='{:.3g}'.format)}\n", flush=True)
    table = pd.concat(tables).rename_axis("row").reset_index()
    table[["table", "row", "column", "value"]].to_csv(arguments.output, index=False)
    print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
