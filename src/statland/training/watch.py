"""The gradient flow of a run: probed when it is due, recorded, told and drawn."""

import gc
import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from torch import Tensor

from statland.batch import Batch
from statland.gradients.probe import (
    Probed,
    largest_lyapunov_exponents,
    measure,
    probe_batch,
    verdict,
)
from statland.gradients.spectrum import linear_decay
from statland.models.base import RecurrentModel
from statland.records.recorder import Recorder, read_flow

log = logging.getLogger(__name__)

# A long run's figures are drawn at its first probe in training, and anew when older than this.
LONG_RUN, REDRAW_SECONDS = 10_000, 60

# The heatmap has no room for more moments than this: of more, every other one is let go.
MOMENTS = 512


class GradientWatch:
    """Sees how far a model's gradient reaches, before, during and after training."""

    def __init__(
        self,
        name: str,
        model: RecurrentModel,
        held_out: list[Batch],
        span: int | None,
        recorder: Recorder,
        console: Console,
        every: int | None,
        steps: int,
    ) -> None:
        """Watch a model in a run of `steps`, probing every so many; None: never."""
        self.name, self.model, self.span = name, model, span
        self.recorder, self.console, self.every = recorder, console, every
        self.batch = probe_batch(held_out)
        self.gradient: dict[str, Any] = {}  # of summary.json, before and after
        self.first: Probed | None = None
        self.last: Probed | None = None
        # Of every stride-th probe the updates made and the median flow: its course, to be drawn.
        self.course: list[tuple[int, Tensor]] = []
        self.stride, self.count = 1, 0
        self.drawn = -math.inf if steps > LONG_RUN else time.perf_counter()

    def restore(self, gradient: Mapping[str, Any]) -> None:
        """Take up where the recorder's folder and summary.json's `gradient` leave off."""
        self.gradient = dict(gradient)
        for item in read_flow(self.recorder.folder).items():
            self._keep(Probed(*item))

    def probe_if_due(self, updates: int, console: Console) -> None:
        """Probe where so many updates ask for it; say on `console` how training begins."""
        if self.every is None or updates % self.every:
            return
        self.probe(updates)
        if updates == 0:
            self._tell("before", 0, console)
        elif time.perf_counter() - self.drawn > REDRAW_SECONDS:
            self._draw()

    def finish(self, updates: int) -> None:
        """Measure the trained model, and draw."""
        if self.every is None:
            return
        if self.last is None or self.last.step != updates:
            self.probe(updates)
        if updates == 0:  # nothing was trained: before is after
            self._tell("before", 0, self.console)
            self.gradient["after"] = self.gradient["before"]
        else:
            self._tell("after", updates, self.console)
        self._draw()

    def probe(self, updates: int) -> None:
        """Record how far the gradient reaches after so many updates."""
        measured = measure(self.model, self.batch)
        self.recorder.scalars(updates, measured.scalars)
        self.recorder.flow(updates, measured.profiles)
        self._keep(Probed(updates, measured.profiles))
        self.last_gradient = measured.gradient

    def _keep(self, probed: Probed) -> None:
        """Keep of a probe what will be drawn."""
        self.first, self.last = self.first or probed, probed
        if self.count % self.stride == 0:
            self.course.append((probed.step, probed.profiles["state"].median))
        self.count += 1
        if len(self.course) > MOMENTS:
            del self.course[1::2]
            self.stride *= 2

    def _tell(self, when: str, updates: int, console: Console) -> None:
        """Say, before or after training, how far the gradient reaches, with the exponents."""
        exponents = largest_lyapunov_exponents(self.model, self.batch)
        self.gradient[when] = self.last_gradient | {
            "lyapunov": exponents.tolist(),
            "theory_decay_per_day": linear_decay(self.model),
        }
        self.recorder.scalars(updates, {"lyapunov/max": exponents[0].item()})
        line = f"{when} training: {verdict(self.gradient[when], self.span)}"
        self.recorder.text("grad_flow/forecast", line, updates)
        console.print(line, highlight=False, soft_wrap=True)
        log.info(line)

    def _draw(self) -> None:
        """Draw the profile, first and last, and the heatmap of the course between them."""
        from statland.gradients import figures  # importing matplotlib takes a second

        step = self.last.step
        title = f"how far back the gradient reaches: {self.name}"
        theory = linear_decay(self.model)
        profile = figures.profile_figure(title, self.first, self.last, self.span, theory)
        self.recorder.figure("grad_flow/profile", profile, step)
        course = dict(self.course) | {step: self.last.profiles["state"].median}
        if len(course) > 1:  # one moment has no course
            title = f"gradient flow in training: {self.name}"
            heatmap = figures.heatmap_figure(title, course, self.span)
            self.recorder.figure("grad_flow/heatmap", heatmap, step)
        gc.collect()
        self.drawn = time.perf_counter()
