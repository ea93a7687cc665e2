"""What a person sees while a run goes on, and when it is done."""

import json
import logging
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from torch import Tensor

from statland.batch import Batch
from statland.data.base import EXACT, Market
from statland.training.fit import Step
from statland.training.step_log import Tally

log = logging.getLogger(__name__)

# The charts that tell the story, pinned first in the link to TensorBoard.
STORY = (
    "loss/validation",
    "gradient/log10_norm",
    "profile/before_training",
    "profile/after_training",
)

# A run's folder begins with its model's name: one colour a model.
COLOUR_GROUPS = r"regex:(?:^|/)([a-z0-9_]+)(?:-[^/]*)?$"

FEW_INPUTS = 3  # a day, that an example shows all of


class Bar(Progress):
    """A bar with step, loss, validation loss, gradient norm and speed; none where none is seen."""

    def __init__(self, console: Console, name: str, steps: int) -> None:
        super().__init__(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("validation {task.fields[validation]}"),
            TextColumn("grad norm {task.fields[gradient_norm]}"),
            TextColumn("{task.fields[speed]} steps/s"),
            TimeRemainingColumn(compact=True),
            console=console,
            refresh_per_second=4,
            disable=not console.is_terminal,
            transient=True,
        )
        self.task = self.add_task(
            name, total=steps, loss="-", validation="-", gradient_norm="-", speed="-"
        )

    def show(self, step: Step, validation: float | None, speed: float) -> None:
        """Show a step, the last validation loss, and the speed in steps a second."""
        self.update(
            self.task,
            completed=step.index + 1,
            loss=short(step.loss),
            validation=short(validation),
            gradient_norm=short(step.gradient_norm),
            speed=f"{speed:.0f}",
        )


def print_notes(console: Console, notes: Sequence[str]) -> None:
    """Print, and log, what a market has to say of its data."""
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True)
        log.info(note)


def print_result(
    console: Console, summary: Mapping[str, Any], tally: Tally, examples: Table
) -> None:
    """Print what came out of a run."""
    if summary["status"] == "diverged":
        line = f"diverged: after {tally.updates} steps the loss is not finite"
        console.print(line, style="bold", highlight=False)
    console.print(closing_table(summary), highlight=False)
    console.print(examples, highlight=False)
    console.print(norms_line(tally), highlight=False, soft_wrap=True)


def print_where(console: Console, folder: Path) -> None:
    """Print where a run or a sweep is, and how to look at it."""
    short = quoted_path(folder)
    for line in (
        f"run folder:  {short}",
        f"look at it:  tensorboard --logdir {short}",
        f"and open     {tensorboard_link()}",
    ):
        console.print(line, highlight=False, soft_wrap=True)


def print_stopped(console: Console, folder: Path, updates: int) -> None:
    """Print, of a run that was asked to stop, where it is and the command that goes on."""
    short = quoted_path(folder)
    steps = f"{updates} step{'' if updates == 1 else 's'}"
    console.print(f"stopped after {steps}; all is saved in {short}", soft_wrap=True)
    console.print(f"go on with:  python scripts/train.py resume={short}", soft_wrap=True)


def tensorboard_link() -> str:
    """TensorBoard's address with the story's charts pinned, unsmoothed, one colour a model."""
    pins = [{"plugin": "scalars", "tag": tag} for tag in STORY]
    cards = json.dumps(pins, separators=(",", ":"))
    options = {"pinnedCards": cards, "smoothing": "0", "runColorGroup": COLOUR_GROUPS}
    query = "&".join(f"{key}={quote(value, safe='')}" for key, value in options.items())
    return f"http://localhost:6006/?{query}#timeseries"


def quoted_path(path: Path) -> str:
    """Relative to here where it is below here, and quoted where a shell asks for it."""
    path = path.resolve()
    short = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return shlex.quote(str(short))


def closing_table(summary: Mapping[str, Any]) -> Table:
    """The validation loss beside every baseline, and the scores."""
    table = Table(title="Validation", title_justify="left", show_edge=False)
    table.add_column("forecast")
    table.add_column("mse", justify="right")
    names = summary["choices"]
    losses = {f"{names['model']} (this run)": summary["validation"]["mse"], **summary["baselines"]}
    for name, loss in sorted(losses.items(), key=lambda item: _nan_last(item[1])):
        text = "0 (exact)" if loss < EXACT else short(loss)
        table.add_row(name, text, style="bold" if "(this run)" in name else None)
    table.add_section()
    for name, value in summary["validation"].items():
        if name == "skill" and value is None:
            table.add_row("skill", "- (none can beat 0)")
        elif name != "mse":
            table.add_row(name, short(value))
    return table


def result_line(summary: Mapping[str, Any]) -> str:
    """One line on a run of a sweep."""
    if summary["status"] == "failed":
        return f"failed: {summary['error']}"
    mse, skill = summary["validation"]["mse"], summary["validation"]["skill"]
    line = f"{summary['status']}, validation {short(mse)}, skill {short(skill)}"
    reaches = [str(moment["reach_inputs_days"]) for moment in summary["gradient"].values()]
    return f"{line}, reach {' -> '.join(reaches)}" if reaches else line


def norms_line(tally: Tally) -> str:
    """One line on the total gradient norms of all steps, before clipping."""
    if tally.updates == 0:
        return "gradient norm: no step was made"
    finite = ""
    if tally.largest >= tally.smallest:
        finite = f"smallest {short(tally.smallest)}, largest {short(tally.largest)}, "
    return (
        f"gradient norm: first {short(tally.first)}, {finite}last {short(tally.last)}; "
        f"clipped {tally.clipped} of {tally.updates} steps, not finite {tally.skipped}"
    )


def examples(market: Market, batch: Batch, predictions: Tensor) -> Table:
    """Four validation companies by their last two days: their days, tomorrow, the prediction."""
    table = Table(title="Examples", title_justify="left", show_edge=False)
    for name in ("days", "tomorrow", "predicted"):
        table.add_column(name, justify="right")
    rows = []
    for x, age, y, predicted in zip(*batch, predictions, strict=True):
        days = [_day(market, day) for day in x[: int(age)].tolist()]
        rows.append((x[max(0, int(age) - 2) : int(age)].flatten().tolist(), days, y, predicted))
        if len(rows) == 4:
            break
    for _, days, y, predicted in sorted(rows, key=lambda row: row[0]):
        shown = days if len(days) <= 5 else [days[0], "...", *days[-4:]]
        tomorrow = " ".join(map(market.in_words, y.tolist()))
        table.add_row(", ".join(shown), tomorrow, " ".join(f"{p:.3g}" for p in predicted.tolist()))
    return table


def _day(market: Market, inputs: Sequence[float]) -> str:
    """All inputs of a day where they are few, else the first ones."""
    words = "/".join(map(market.in_words, inputs[:FEW_INPUTS]))
    return words if len(inputs) <= FEW_INPUTS else f"{words}/..."


def short(value: float | None) -> str:
    """A number in few characters."""
    return "-" if value is None or math.isnan(value) else f"{value:.4g}"


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value
