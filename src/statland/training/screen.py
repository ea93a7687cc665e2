"""What a run prints: a progress bar, and tables when it is done."""

import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.style import Style
from rich.table import Table
from rich.text import Text

from statland.batch import Batch
from statland.data.base import EXACT, Market
from statland.models.base import SequenceModel, evaluating
from statland.records.summary import loss_name
from statland.settings import printable
from statland.training.fit import Step

# The charts that tell the story, pinned first in the link to TensorBoard.
STORY = ["loss/validation", "gradient/log10_norm"]
STORY += ["profile/before_training", "profile/after_training"]


class Bar(Progress):
    """A bar with step, loss, validation loss, gradient norm and speed; only on a terminal."""

    def __init__(self, console: Console, name: str, steps: int) -> None:
        super().__init__(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            refresh_per_second=4,
            disable=not console.is_terminal,
            transient=True,
        )
        self.task = self.add_task(name, total=steps, numbers="")

    def show(self, step: Step, validation: float | None, speed: float) -> None:
        """Show a step, the last validation loss, and the speed in steps per second."""
        numbers = (
            f"loss {short(step.loss)} validation {short(validation)} "
            f"grad norm {short(step.gradient_norm)} {speed:.0f} steps/s"
        )
        self.update(self.task, completed=step.index + 1, numbers=numbers)


def print_result(console: Console, summary: Mapping[str, Any], examples: Table) -> None:
    """Print what came out of a run."""
    if summary["status"] == "diverged":
        line = f"diverged: after {summary['steps']} steps the loss is not finite"
        console.print(line, style="bold", highlight=False)
    console.print(closing_table(summary), highlight=False)
    console.print(examples, highlight=False)


def print_where(console: Console, folder: Path) -> None:
    """Print where a run or a sweep is, and how to look at it."""
    short, address = quoted_path(folder), tensorboard_link()
    shown = Text(address)
    if console.is_terminal:  # which opens a short link as well
        shown = Text(address.partition("?")[0], Style(link=address))
    for line in (
        f"run folder:  {short}",
        f"look at it:  tensorboard --logdir {short}",
        Text("and open     ").append(shown),
    ):
        console.print(line, highlight=False, soft_wrap=True)


def print_stopped(console: Console, folder: Path, updates: int, trust: Sequence[str]) -> None:
    """Print where a stopped run is, and the command that resumes it from the current folder."""
    script, short = quoted_path(Path(sys.argv[0])), quoted_path(folder)
    trusting = " " + shlex.quote(f"trust=[{','.join(trust)}]") if trust else ""
    console.print(f"stopped after {updates} steps; all is saved in {short}", soft_wrap=True)
    console.print(f"resume with: python {script} resume={short}{trusting}", soft_wrap=True)


def tensorboard_link() -> str:
    """Return TensorBoard's address with the story's charts pinned, unsmoothed."""
    pins = [{"plugin": "scalars", "tag": tag} for tag in STORY]
    options = {
        "pinnedCards": json.dumps(pins, separators=(",", ":")),
        "smoothing": "0",
        # A run's folder begins with its model's name: one colour per model.
        "runColorGroup": r"regex:(?:^|/)([a-z0-9_]+)(?:-[^/]*)?$",
    }
    return f"http://localhost:6006/?{urlencode(options, safe='', quote_via=quote)}#timeseries"


def quoted_path(path: Path) -> str:
    """Return a path relative to the current folder if it is below that, quoted for a shell.

    A name that could act on the terminal has spaces in its place.
    """
    path = path.resolve()
    short = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return shlex.quote(printable(str(short)))


def closing_table(summary: Mapping[str, Any]) -> Table:
    """Return the validation loss beside every baseline's, and the scores."""
    table = Table(title="Validation", title_justify="left", show_edge=False)
    table.add_column("forecast")
    names, loss = summary["choices"], loss_name(summary["validation"])
    table.add_column(loss.replace("_", " "), justify="right")
    losses = {f"{names['model']} (this run)": summary["validation"][loss], **summary["baselines"]}
    for name, value in sorted(losses.items(), key=lambda item: (math.isnan(item[1]), item[1])):
        text = "0 (exact)" if value < EXACT else short(value)
        table.add_row(name, text, style="bold" if "(this run)" in name else None)
    table.add_section()
    longer = summary["longer"].get("after", {})
    scores = {
        **summary["validation"],
        **{f"longer {name}": value for name, value in longer.items()},
    }
    for name, value in scores.items():
        if name == "skill" and value is None:
            table.add_row("skill", "- (none can beat 0)")
        elif name != loss:
            table.add_row(name.replace("_", " "), short(value))
    return table


def result_line(summary: Mapping[str, Any]) -> str:
    """Return one line on a run of a sweep."""
    if summary["status"] == "failed":
        return f"failed: {summary['error']}"
    validation = summary["validation"]
    loss, skill = validation[loss_name(validation)], validation["skill"]
    line = f"{summary['status']}, validation {short(loss)}, skill {short(skill)}"
    words = [str(moment["verdict"]) for moment in summary["gradient"].values()]
    words += ["diverged"] if summary["status"] == "diverged" else []
    return f"{line}, the gradient {' -> '.join(words)}" if words else line


@torch.no_grad()
def examples(market: Market, model: SequenceModel, batch: Batch) -> Table:
    """Return a table of four companies: their days, tomorrow, the prediction.

    Of a day it has the first three inputs or, where they are one-hot, which of them is 1.
    """
    table = Table(title="Examples", title_justify="left", show_edge=False)
    for name in ("days", "tomorrow", "predicted"):
        table.add_column(name, justify="right")
    with evaluating(model):
        predictions = model(batch.x, batch.lengths)
    if batch.has_classes:
        predictions = predictions.argmax(1)
    parts = batch.x, batch.lengths, *(t.reshape(len(t), -1) for t in (batch.y, predictions))
    companies = zip(*(part[:4].tolist() for part in parts), strict=True)
    for x, age, y, predicted in sorted(companies, key=lambda c: c[0][max(c[1] - 2, 0) : c[1]]):
        days = [day_in_words(market, day) for day in x[:age]]
        shown = days if len(days) <= 5 else [days[0], "...", *days[-4:]]
        tomorrow = " ".join(map(market.in_words, y))
        table.add_row(", ".join(shown), tomorrow, " ".join(f"{p:.3g}" for p in predicted))
    return table


def day_in_words(market: Market, day: list[float]) -> str:
    """Return the inputs of a day as `examples` shows them."""
    if len(day) > 2 and max(day) == 1 == sum(map(abs, day)):
        return str(day.index(1))
    return "/".join(map(market.in_words, day[:3])) + ("/..." if len(day) > 3 else "")


def short(value: float | None) -> str:
    """Return a number in few characters."""
    return "-" if value is None or math.isnan(value) else f"{value:.4g}"
