"""What a run of the bench measures and records, in any training loop."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from statland.batch import Batch
from statland.records.files import check_new
from statland.records.identity import Identity, write_identity
from statland.records.provenance import provenance
from statland.records.summary import write_summary
from statland.settings import flatten
from statland.training.fit import Step, gradient_norm
from statland.training.step_log import StepLog
from statland.training.watch import GradientWatch, span_of


class Monitor:
    """Writes a run folder, as a run of the bench does, from a training loop of your own.

        monitor = Monitor(model, x, lengths, loss, log_dir="runs/mine", every=500)
        for step, batch in enumerate(batches):
            ...
            monitor(step, loss=value)  # after backward(), before the gradient is clipped
        monitor.close()

    x, lengths, `loss` and `options` are those of `gradient_flow`: a fixed batch, whose gradient
    flow is measured at the first step, after 10 and 100, every `every` steps, and at the end.
    Norms are recorded every `log_every` steps. `answer` (B, T) marks the days that the answer
    needs, if they are known. compare.py takes `name`, by default the folder's, for the model.
    Training is bit-identical with and without. Raises SettingError if `log_dir` holds a run.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        lengths: Tensor | None = None,
        loss: Any = None,
        *,
        log_dir: Path | str,
        every: int = 500,
        log_every: int = 1,
        answer: Tensor | None = None,
        name: str | None = None,
        **options: Any,
    ) -> None:
        from statland.records.recorder import Recorder  # importing TensorBoard takes a second

        ages = torch.full((len(x),), x.shape[1]) if lengths is None else lengths.cpu()
        marks = None if answer is None else answer.cpu()
        check_new(Path(log_dir))
        self.batch = Batch(x, ages, None)  # type: ignore[arg-type]  # the loss knows the targets
        self.model, self.recorder = model, Recorder(Path(log_dir))
        name, days = name or self.recorder.folder.name, int(ages.max())
        parameters = sum(parameter.numel() for parameter in model.parameters())
        config = {"seed": torch.initial_seed(), "data": {"max_days": days}}
        choices = {"model": name, "data": "own"}
        self.facts = {"choices": choices, "config": config, "parameters": parameters}
        given = config | {"name": name, "parameters": parameters, "companies": len(x)}
        write_identity(self.recorder.folder, Identity(given, {}, choices))
        self.recorder.hyperparameters(flatten(given) | choices, "")
        self.steps = StepLog(self.recorder, model, log_every)
        self.steps.clipped = math.nan  # clipping comes later, if at all
        seen = self.batch, marks, span_of(lambda _: marks, [self.batch])
        to = self.recorder, Console(markup=False)
        self.watch = GradientWatch(name, model, *seen, *to, every, loss=loss, **options)
        self.loss: float | None = None
        self.validation: float | None = None
        self.started = time.perf_counter()

    def __call__(self, step: int, loss: Any = None, validation: Any = None) -> None:
        """Record a step whose raw gradients are in place; `step` updates were made before it.

        `loss` and `validation` are losses, floats or tensors (), at steps that have one.
        """
        self.steps.record_update()
        if self.watch.last is None:
            self.steps.full_updates = step
        self.steps.updates, self.loss = step, _number(loss)
        self.watch.probe_if_due(step, self.watch.console)
        self.watch.draw_if_old()
        if validation is not None:
            self.validation = _number(validation)
            self.recorder.scalars(step, {"loss/validation": self.validation})
        norm = gradient_norm(self.model.parameters())
        is_lost = not math.isfinite(norm)
        self.steps.add(Step(step, self.batch, self.loss, norm, False, is_lost), is_last=False)

    def close(self) -> None:
        """Measure the trained model, draw, and write summary.json."""
        self.steps.record_update()
        diverged = self.loss is not None and not math.isfinite(self.loss)
        self.watch.finish(self.steps.updates, diverged)
        summary = self.facts | {
            "status": "diverged" if diverged else "completed",
            "steps": self.steps.updates,
            "seconds": time.perf_counter() - self.started,
            "validation": {"mse": self.validation},
            "baselines": {},
            "gradient": self.watch.gradient,
            "span": self.watch.span,
            "nonfinite_steps": self.steps.skipped,
            "provenance": provenance(),
        }
        write_summary(self.recorder.folder, summary)
        self.recorder.close()


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value
