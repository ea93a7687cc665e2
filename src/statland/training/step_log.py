"""What is recorded of training steps: every log_every-th in full, and of an explosion all.

The loss and the total gradient norm are also recorded on each of the first 20 steps, on every step
at which log10 of the norm has moved by half a decade since it was last recorded, and on every step
whose gradient is not finite.
"""

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from statland.gradients.norms import log10, parameter_norms, update_ratios
from statland.training.fit import Step

if TYPE_CHECKING:  # importing TensorBoard takes a second
    from statland.records.recorder import Recorder

FIRST = 20  # steps
MOVED = 0.5  # decades

STATE = ("updates", "clipped", "skipped", "level", "full_updates", "full_clipped")


class StepLog:
    """Records the steps of a run."""

    def __init__(self, recorder: "Recorder", model: nn.Module, log_every: int) -> None:
        self.recorder, self.log_every = recorder, log_every
        self.parameters = dict(model.named_parameters())
        self.updates = self.skipped = 0  # steps; skipped ones are not finite
        self.clipped: float = 0  # steps; nan if that is not known
        self.level = math.nan  # log10 of the norm when it was last recorded
        # Updates and clipped steps by the last full row, and when that was.
        self.full_clipped: float = 0
        self.full_updates, self.seconds = 0, time.perf_counter()
        # Copies of the parameters, while a step recorded in full waits for its update.
        self.before: dict[str, Tensor] | None = None

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as plain values."""
        return {name: getattr(self, name) for name in STATE}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        vars(self).update(state)

    def add(self, step: Step, is_last: bool) -> float | None:
        """Record what is due at a step whose raw gradients are in place.

        Returns the speed in steps per second if that was all there is, else None. An extra row at
        the last step changes no row of a run that is extended.
        """
        self.updates += 1
        self.clipped += step.clipped
        self.skipped += step.skipped
        is_full, level = step.index % self.log_every == 0, log10(step.gradient_norm)
        is_due = is_full or step.index < FIRST or step.skipped or abs(level - self.level) >= MOVED
        if is_due and not step.skipped:
            self.level = level
        if not (is_due or is_last):
            return None
        total = {"gradient/log10_norm": level, "loss/train": step.loss}
        total["norm/total"] = step.gradient_norm
        if not (is_full or is_last):
            self.recorder.scalars(step.index, total)
            return None
        now, made = time.perf_counter(), self.updates - self.full_updates
        speed = made / (now - self.seconds)
        norms = parameter_norms(self.parameters)
        rest = {
            "norm/clipped_fraction": (self.clipped - self.full_clipped) / made,
            "norm/nonfinite_steps": self.skipped,
            **{f"norm_of_parameter/{name}": norm for name, norm in norms.items()},
            **{f"norm_of_parameter_log10/{name}": log10(norm) for name, norm in norms.items()},
            "speed/steps_per_second": speed,
        }
        self.recorder.scalars(step.index, total | rest)
        if is_full:
            self.full_updates, self.full_clipped, self.seconds = self.updates, self.clipped, now
        self.before = {name: p.detach().clone() for name, p in self.parameters.items()}
        return speed

    def record_update(self) -> None:
        """Record the update that followed the last step, if that one was recorded in full."""
        if self.before is not None:
            ratios = update_ratios(self.before, self.parameters)
            tagged = {f"update_ratio/{name}": ratio for name, ratio in ratios.items()}
            self.recorder.scalars(self.updates - 1, tagged)
            self.before = None
