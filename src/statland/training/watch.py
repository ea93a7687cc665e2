"""The gradient flow of a run: probed when it is due, recorded, summed up in words, drawn."""

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
    WEIGHTS,
    Probed,
    largest_lyapunov_exponents,
    leading,
    measure,
    probe_batch,
    weight_contributions,
)
from statland.gradients.spectrum import linear_decay
from statland.gradients.words import verdict
from statland.models.base import SequenceModel
from statland.records.files import read_flow
from statland.records.recorder import Recorder

log = logging.getLogger(__name__)

# Probes are dense where training moves most: at these steps, then every probe_every.
EARLY = {0, 1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100, 200}

# A long run's figures are drawn at its first probes in training, and anew when older than this.
LONG_RUN, REDRAW_SECONDS = 10_000, 60

# The heatmap has no room for more moments than this: of more, every other one is let go.
MOMENTS = 512

# Of the moments of a run, the profile is drawn at so many.
PICTURES = 3


class GradientWatch:
    """Sees how far a model's gradient reaches, before, during and after training."""

    def __init__(
        self,
        name: str,
        model: SequenceModel,
        held_out: list[Batch],
        span: int | None,
        recorder: Recorder,
        console: Console,
        every: int | None,
        steps: int,
        span_is_spread: bool = False,
    ) -> None:
        """Watch a model in a run of `steps`, probing every so many; None: never."""
        self.name, self.model, self.span = name, model, span
        self.span_is_spread = span_is_spread
        self.recorder, self.console, self.every = recorder, console, every
        self.batch = probe_batch(held_out)
        self.gradient: dict[str, Any] = {}  # of summary.json, before and after
        self.first: Probed | None = None
        self.last: Probed | None = None
        # Of every stride-th probe the updates made and the median flow: its course, to be drawn.
        self.course: list[tuple[int, Tensor]] = []
        self.stride, self.count = 1, 0
        # Probes whose profile gets a picture of its own, and the step of the last that has one.
        self.shown: list[Probed] = []
        self.pictured = -1
        self.diverged: int | None = None  # the step at which training has
        self.drawn = -math.inf if steps > LONG_RUN else time.perf_counter()

    def restore(self, gradient: Mapping[str, Any], updates: int) -> None:
        """Take up where the recorder's folder and summary.json's `gradient` leave off."""
        self.gradient = dict(gradient)
        for item in read_flow(self.recorder.folder).items():
            self._keep(Probed(*item))
        if self.first is not None:  # TensorBoard drops what it had from step `updates` on
            self._record_profiles("before", self.first, first_lag=updates)

    def probe_if_due(self, updates: int, console: Console) -> None:
        """Probe where so many updates ask for it; say on `console` how training begins."""
        if not is_due(updates, self.every):
            return
        self.probe(updates)
        if updates == 0:
            self._report("before", console)
        elif time.perf_counter() - self.drawn > REDRAW_SECONDS:
            self._draw()

    def finish(self, updates: int, diverged: bool = False) -> None:
        """Measure the trained model, and draw."""
        self.diverged = updates if diverged else None
        if self.every is None:
            return
        if self.last is None or self.last.step != updates:
            self.probe(updates)
        if updates == 0:  # nothing was trained: before is after
            self._report("before", self.console)
            self.gradient["after"] = self.gradient["before"]
        else:
            self._report("after", self.console)
        self._draw()

    def probe(self, updates: int) -> None:
        """Record how far the gradient reaches after so many updates."""
        measured = measure(self.model, self.batch)
        self.recorder.scalars(updates, measured.scalars)
        self.recorder.flow(updates, measured.profiles)
        self._keep(Probed(updates, measured.profiles))
        self.last_gradient, self.last_flow = measured.gradient, measured.flow

    def _keep(self, probed: Probed) -> None:
        """Keep of a probe what will be drawn."""
        self.first, self.last = self.first or probed, probed
        if self.count % self.stride == 0:
            self.course.append((probed.step, _median(probed)))
            self.shown.append(probed)
        self.count += 1
        if len(self.shown) > 4 * PICTURES:
            del self.shown[1::2]
        if len(self.course) > MOMENTS:
            del self.course[1::2]
            self.stride *= 2

    def _report(self, when: str, console: Console) -> None:
        """Say, before or after training, how far the gradient reaches, with the exponents."""
        assert self.last is not None
        exponents = largest_lyapunov_exponents(self.model, self.batch)
        self.gradient[when] = self.last_gradient | {
            "lyapunov": None if exponents is None else exponents.tolist(),
            "theory_decay_per_day": linear_decay(self.model),
        }
        step = self.last.step
        if exponents is not None:
            values = {"profile_summary/lyapunov_max": exponents[0].item()}
            self.recorder.scalars(step, values)
        taught = weight_contributions(self.model, self.batch, self.last_flow)
        if taught is not None:
            self.gradient[when]["log10_dp_dw"] = taught.dependence
            self.last.profiles[WEIGHTS] = taught.profile  # which the figure shows too
            self.recorder.flow(step, {WEIGHTS: taught.profile})
        self._record_profiles(when, self.last)
        said = verdict(self.gradient[when], self.span, self.span_is_spread)
        line = f"{when} training the gradient {said}"
        self.recorder.text("gradient/verdict", line, step)
        console.print(line, highlight=False, soft_wrap=True)
        log.info(line)

    def _record_profiles(self, when: str, probed: Probed, first_lag: int = 0) -> None:
        """Write TensorBoard's profiles of before or after training, from a lag on."""
        self.recorder.profile(f"profile/{when}_training", _median(probed), first_lag)
        if WEIGHTS in probed.profiles:
            weights = probed.profiles[WEIGHTS].median
            self.recorder.profile(f"profile_weights/{when}_training", weights, first_lag)

    def _draw(self) -> None:
        """Draw the profile at some of the steps so far, and the heatmap of their course."""
        from statland.gradients import figures  # importing matplotlib takes a second

        assert self.first is not None
        assert self.last is not None
        title = f"{self.recorder.folder.name}: {self.name}"
        said = verdict(self.last_gradient, self.span, self.span_is_spread)
        theory = linear_decay(self.model)
        for probed in [*thinned(self.shown, PICTURES - 1), self.last]:
            if probed.step <= self.pictured:
                continue
            is_last = probed is self.last
            profile = figures.profile_figure(
                title,
                probed,
                self.first,
                self.span,
                theory,
                said if is_last else "",
                self.diverged if is_last else None,
            )
            self.recorder.figure("picture/profile", profile, probed.step)
            self.pictured = probed.step
        course = dict(self.course) | {self.last.step: _median(self.last)}
        if len(course) > 1:  # one moment has no course
            heatmap = figures.heatmap_figure(title, course, self.span, said, self.diverged)
            self.recorder.figure("picture/heatmap", heatmap, self.last.step)
        gc.collect()
        self.drawn = time.perf_counter()


def is_due(updates: int, every: int | None) -> bool:
    """Whether a run that probes every so many updates does so after `updates` of them."""
    return every is not None and (updates % every == 0 or updates in EARLY)


def thinned(probes: list[Probed], count: int) -> list[Probed]:
    """At most `count` of them, evenly, the first among them and the last not."""
    return [probes[place * len(probes) // count] for place in range(min(count, len(probes)))]


def _median(probed: Probed) -> Tensor:
    """The median flow (lags,) that a run's numbers are of."""
    return probed.profiles[leading(probed.profiles)].median
