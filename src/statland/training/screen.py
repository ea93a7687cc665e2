"""What a person sees while a run goes on, and when it is done."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from statland.training.evaluation import EXACT
from statland.training.fit import Step, Tally


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
        fields = dict.fromkeys(("loss", "validation", "gradient_norm", "speed"), "-")
        self.task = self.add_task(name, total=steps, **fields)

    def show(self, step: Step, validation: float, speed: float) -> None:
        """Show a step, the last validation loss, and the speed in steps a second."""
        self.update(
            self.task,
            completed=step.index + 1,
            loss=short(step.loss),
            validation=short(validation),
            gradient_norm=short(step.gradient_norm),
            speed=f"{speed:.0f}",
        )


def closing_table(summary: Mapping[str, Any], exact: bool) -> Table:
    """The validation loss beside every baseline, the skill and the gradient norms."""
    table = Table(title="Validation", title_justify="left", show_edge=False)
    table.add_column("forecast")
    table.add_column("mse", justify="right")
    names = summary["choices"]
    losses = {f"{names['model']} (this run)": summary["validation"]["mse"], **summary["baselines"]}
    for name, loss in sorted(losses.items(), key=lambda item: _nan_last(item[1])):
        told = "0 (exact)" if loss < EXACT else short(loss)
        table.add_row(name, told, style="bold" if "(this run)" in name else None)
    table.add_section()
    for name, value in summary["validation"].items():
        if name == "skill" and exact:
            table.add_row("skill", "- (none can beat 0)")
        elif name != "mse":
            table.add_row(name, short(value))
    return table


def outcome(summary: Mapping[str, Any]) -> str:
    """One line on a run of a sweep."""
    if summary["status"] == "failed":
        return f"failed: {summary['error']}"
    mse, skill = summary["validation"]["mse"], summary["validation"]["skill"]
    line = f"{summary['status']}, validation {short(mse)}, skill {short(skill)}"
    reaches = [str(summary["gradient"][when]["reach_days"]) for when in summary["gradient"]]
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


def examples_table(examples: Sequence[tuple[Sequence[float], float, float]]) -> Table:
    """A few validation companies: their days, tomorrow, and what the model says of it."""
    table = Table(title="Examples", title_justify="left", show_edge=False)
    for name in ("days", "tomorrow", "predicted"):
        table.add_column(name, justify="right")
    for history, tomorrow, predicted in examples:
        days = [f"{value:.3g}" for value in history]
        days = days if len(days) <= 5 else [days[0], "...", *days[-4:]]
        table.add_row(" ".join(days), f"{tomorrow:.3g}", f"{predicted:.3g}")
    return table


def where(folder: Path) -> str:
    """Where the run is, and how to look at it."""
    return f"run folder: {folder}\nlook at it:  tensorboard --logdir {folder}"


def short(value: float | None) -> str:
    """A number in few characters."""
    return "-" if value is None or math.isnan(value) else f"{value:.4g}"


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value
