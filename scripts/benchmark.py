"""Time the bench against the plain PyTorch that it replaces; print tables, write one CSV.

All on one thread, subnormal numbers counted as 0 for both sides, as in training. Takes about ten
minutes.
"""

import argparse
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from statland.benchmark import families, recurrence, runs
from statland.benchmark.timing import geometric_mean
from statland.training.device import prepare_process

TABLES = {
    "hand-written RNN, forward and backward": lambda s: recurrence.hand_written_rnn(10 * s),
    "ragged histories, forward and backward": lambda s: recurrence.padded_and_packed(5 * s),
    "families, forward and backward, 32 companies, 64 units": lambda s: families.families(10 * s),
    "h_t = a_t h_{t-1} + b_t, 32 companies, 64 units": lambda s: families.sweeps(3 * s),
    "one training step, 50 days, 32 companies, 32 units": lambda s: runs.recorded_training(
        steps=1000, rounds=max(1, round(7 * s))
    ),
    "probes, 32 companies, 32 units, of a default run": lambda s: runs.probing(2 * s),
    "start-up": lambda s: runs.start_up(rounds=max(1, round(5 * s))),
    "the command, from start to end, all recorded and drawn": lambda s: runs.whole_command(
        rounds=max(1, round(3 * s))
    ),
    "peak memory at 1000 days, 32 companies, 64 units": lambda s: recurrence.peak_memory(),
}


def main() -> None:
    """Parse the command line and print a table at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("benchmark.csv"), help="the CSV file")
    parser.add_argument("--scale", type=float, default=1.0, help="below 1: shorter, noisier")
    parser.add_argument("--only", default="", help="only tables whose title has this in it")
    arguments = parser.parse_args()
    prepare_process(threads=1)
    console, rows = Console(), []
    for title, measure in TABLES.items():
        if arguments.only in title:
            frame = measure(arguments.scale)
            show(console, title, frame)
            rows.append(frame.melt(ignore_index=False, var_name="column").assign(table=title))
    table = pd.concat(rows).rename_axis("row").reset_index()[["table", "row", "column", "value"]]
    table.to_csv(arguments.output, index=False)
    console.print(f"written to {arguments.output}")


def show(console: Console, title: str, frame: pd.DataFrame) -> None:
    """Print one table, and the geometric mean of each column of ratios."""
    table = Table(title=title, title_justify="left", show_edge=False)
    for name in frame.columns:
        table.add_column(name, justify="right")
    for row in frame.itertuples(index=False):
        table.add_row(
            *("" if v != v else f"{v:.3g}" if isinstance(v, float) else str(v) for v in row)
        )
    if len(frame) > 1:
        means = [
            f"{geometric_mean(frame[name]):.3g}" if " / " in name else "" for name in frame.columns
        ]
        table.add_section()
        table.add_row(*["geometric mean", *means[1:]], style="bold")
    console.print(table, "")


if __name__ == "__main__":
    main()
