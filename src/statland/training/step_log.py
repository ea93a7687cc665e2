"""What is recorded of training steps: every log_every-th in full, and of an explosion all.

The total gradient norm and the loss are recorded on each of the first 20 steps, on every step at
which log10 of the norm has moved by half a decade since it was last recorded, on every step whose
gradient is not finite, and on the 20 before it. So that TensorBoard meets the steps in order, these
rows are written up to 20 steps late.
"""

import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from statland.gradients.norms import log10, parameter_norms, update_ratios
from statland.records.recorder import Recorder
from statland.training.fit import Step

FIRST, BEFORE = 20, 20  # steps recorded at the start, and before a gradient that is not finite
MOVED = 0.5  # decades


@dataclass
class Tally:
    """What the steps of a run have been like; norms are of all gradients, before clipping."""

    updates: int = 0  # as many as steps
    clipped: int = 0
    skipped: int = 0
    first: float = math.nan
    smallest: float = math.inf  # of those that are finite
    largest: float = -math.inf
    last: float = math.nan

    def add(self, step: Step) -> None:
        """Count one step more."""
        norm = step.gradient_norm
        self.first = self.first if self.updates else norm
        self.last = norm
        if math.isfinite(norm):
            self.smallest, self.largest = min(self.smallest, norm), max(self.largest, norm)
        self.updates += 1
        self.clipped += step.clipped
        self.skipped += step.skipped


class Row(NamedTuple):
    """The loss and the total norm of one step, which may yet have to be recorded."""

    step: int
    loss: float
    norm: float
    is_due: bool


class StepLog:
    """Records the steps of a run."""

    def __init__(
        self, recorder: Recorder, parameters: Mapping[str, nn.Parameter], log_every: int
    ) -> None:
        self.recorder, self.parameters, self.log_every = recorder, parameters, log_every
        self.tally = Tally()
        self.waiting: deque[Row] = deque()
        self.level = math.nan  # log10 of the norm when it was last recorded
        # At the last full row: steps made and clipped by then, and when that was.
        self.made, self.clipped, self.seconds = 0, 0, time.perf_counter()
        # Copies of the parameters, while a step recorded in full waits for its update.
        self.before: dict[str, Tensor] | None = None

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as plain values."""
        return {
            "tally": asdict(self.tally),
            "waiting": [list(row) for row in self.waiting],
            "level": self.level,
            "made": self.made,
            "clipped": self.clipped,
        }

    def point(self) -> dict[str, Any]:
        """Where a longer run takes the records up: the sizes of the files, and `state`."""
        return {"sizes": self.recorder.sizes(), "log": self.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.tally = Tally(**state["tally"])
        self.waiting = deque(Row(*row) for row in state["waiting"])
        self.level, self.made, self.clipped = state["level"], state["made"], state["clipped"]

    def add(self, step: Step) -> None:
        """Take a step in whose raw gradients are in place, before `record_full`."""
        self.tally.add(step)
        level = log10(step.gradient_norm)
        is_due = (
            step.index < FIRST
            or self.is_due(step.index)
            or step.skipped
            or abs(level - self.level) >= MOVED
        )
        self.waiting.append(Row(step.index, step.loss, step.gradient_norm, is_due))
        if is_due and not step.skipped:
            self.level = level
        if step.skipped:
            self.waiting = deque(row._replace(is_due=True) for row in self.waiting)
            self.flush()
        while len(self.waiting) > BEFORE:
            self._write(self.waiting.popleft())

    def is_due(self, index: int) -> bool:
        """Whether a step is recorded in full by the cadence."""
        return index % self.log_every == 0

    def record_full(self, step: Step) -> float:
        """Record all that there is of a step whose raw gradients are in place; steps a second."""
        now = time.perf_counter()
        made = self.tally.updates - self.made
        speed = made / (now - self.seconds)
        norms = parameter_norms(self.parameters)
        self.recorder.scalars(
            step.index,
            {
                "norm/clipped_fraction": (self.tally.clipped - self.clipped) / made,
                "norm/nonfinite_steps": self.tally.skipped,
                **{f"norm_of_parameter/{name}": norm for name, norm in norms.items()},
                **{f"norm_of_parameter_log10/{n}": log10(norm) for n, norm in norms.items()},
                "speed/steps_per_second": speed,
            },
            can_wait=True,
        )
        if self.waiting:  # a last step that is not due by itself is recorded all the same
            self.waiting[-1] = self.waiting[-1]._replace(is_due=True)
        self.made, self.clipped, self.seconds = self.tally.updates, self.tally.clipped, now
        self.before = {n: p.detach().clone() for n, p in self.parameters.items()}
        return speed

    def record_update(self) -> None:
        """Record the update that followed the last step, if that one was recorded in full."""
        if self.before is not None:
            ratios = update_ratios(self.before, self.parameters)
            tagged = {f"update_ratio/{name}": ratio for name, ratio in ratios.items()}
            self.recorder.scalars(self.tally.updates - 1, tagged, can_wait=True)
            self.before = None

    def flush(self) -> None:
        """Write the rows that wait and are due."""
        while self.waiting:
            self._write(self.waiting.popleft())

    def _write(self, row: Row) -> None:
        if row.is_due:
            values = {
                "gradient/log10_norm": log10(row.norm),
                "loss/train": row.loss,
                "norm/total": row.norm,
            }
            self.recorder.scalars(row.step, values, can_wait=True)
