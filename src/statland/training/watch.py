"""The gradient flow of a run: measured when it is due, recorded, put into words, drawn."""

import gc
import logging
import time
from typing import Any

from rich.console import Console

from statland.batch import Batch
from statland.gradients.probe import (
    WEIGHTS,
    Measured,
    largest_lyapunov_exponents,
    leading,
    measure,
    probe_batch,
    weight_contributions,
)
from statland.gradients.reach import Profile
from statland.gradients.spectrum import linear_decay
from statland.gradients.words import verdict
from statland.models.base import SequenceModel
from statland.records.files import read_flow
from statland.records.recorder import Recorder

log = logging.getLogger(__name__)

# Probes are dense where training moves most: after so many updates, then every probe_every.
EARLY = {0, 1, 10, 100}

REDRAW_SECONDS = 60  # age of the figures at which a resume point draws them anew

Probe = tuple[int, dict[str, Profile]]  # updates made, and profiles by quantity

# A heatmap has no room for more moments of training, and profiles are drawn of so few.
MOMENTS, PICTURES = 512, 3


class GradientWatch:
    """Measures how far a model's gradient reaches, before, during and after training."""

    def __init__(
        self,
        name: str,
        model: SequenceModel,
        held_out: list[Batch],
        span: int | None,
        recorder: Recorder,
        console: Console,
        every: int | None,
    ) -> None:
        """Watch a model on validation batches, probing every so many updates; None: never."""
        self.name, self.model, self.span = name, model, span
        self.recorder, self.console, self.every = recorder, console, every
        self.batch = probe_batch(held_out)
        self.gradient: dict[str, Any] = {}  # of summary.json, before and after
        self.last: tuple[int, Measured] | None = None  # the last probe, and the updates made then
        self.drawn, self.pictured = time.perf_counter(), -1  # when, and the last probe that was

    def restore(self, gradient: dict[str, Any], updates: int) -> None:
        """Continue after so many updates, given what `gradient` was then."""
        self.gradient = gradient
        if flow := read_flow(self.recorder.folder):
            # TensorBoard drops all from step `updates` on, and takes lags for steps.
            self._record_profiles("before", next(iter(flow.values())), first_lag=updates)

    def probe_if_due(self, updates: int, console: Console) -> None:
        """Probe if so many updates ask for it; print on `console` how training begins."""
        if is_due(updates, self.every):
            self.probe(updates)
            if updates == 0:
                self._report("before", console)

    def finish(self, updates: int, diverged: bool = False) -> None:
        """Measure the trained model, and draw."""
        if self.every is None:
            return
        if self.last is None or self.last[0] != updates:
            self.probe(updates)
        if updates == 0:  # nothing was trained: before is after
            self._report("before", self.console)
            self.gradient["after"] = self.gradient["before"]
        else:
            self._report("after", self.console)
        self._draw(updates if diverged else None)

    def probe(self, updates: int) -> None:
        """Record how far the gradient reaches after so many updates."""
        measured = measure(self.model, self.batch)
        self.recorder.scalars(updates, measured.scalars)
        self.recorder.flow(updates, measured.profiles)
        self.last = updates, measured

    def draw_if_old(self) -> None:
        """Draw anew if the figures are older than a minute."""
        if self.last is not None and time.perf_counter() - self.drawn > REDRAW_SECONDS:
            self._draw()

    def _report(self, when: str, console: Console) -> None:
        """Record and print, before or after training, how far the gradient reaches."""
        assert self.last is not None
        step, measured = self.last
        exponents = largest_lyapunov_exponents(self.model, self.batch)
        gradient = measured.gradient | {
            "lyapunov": None if exponents is None else exponents.tolist(),
            "theory_decay_per_day": linear_decay(self.model),
        }
        if exponents is not None:
            values = {"profile_summary/lyapunov_max": exponents[0].item()}
            self.recorder.scalars(step, values)
        profiles = dict(measured.profiles)
        weights = weight_contributions(self.model, self.batch, measured.flow)
        if weights is not None:
            gradient["log10_dp_dw"] = weights.dependence
            profiles[WEIGHTS] = weights.profile
            self.recorder.flow(step, {WEIGHTS: weights.profile})
        self.gradient[when] = gradient
        self._record_profiles(when, profiles)
        line = f"{when} training the gradient {self._verdict(gradient)}"
        self.recorder.text("gradient/verdict", line, step)
        console.print(line, highlight=False, soft_wrap=True)
        log.info(line)

    def _verdict(self, gradient: dict[str, Any]) -> str:
        return verdict(gradient, self.span)

    def _record_profiles(self, when: str, profiles: Any, first_lag: int = 0) -> None:
        """Write TensorBoard's profiles of before or after training, from a lag on."""
        kinds = {"profile": leading(profiles), "profile_weights": WEIGHTS}
        for tag, quantity in kinds.items():
            if quantity in profiles:
                median = profiles[quantity].median
                self.recorder.profile(f"{tag}/{when}_training", median, first_lag)

    def _draw(self, diverged: int | None = None) -> None:
        """Draw the profile at some of the probes so far, and the heatmap of their course.

        `diverged` is the number of updates after which training has.
        """
        from statland.gradients import figures  # importing matplotlib takes a second

        assert self.last is not None
        title = f"{self.recorder.folder.name}: {self.name}"
        probes = list(read_flow(self.recorder.folder).items())
        said, theory = self._verdict(self.last[1].gradient), linear_decay(self.model)
        (_, first), (last, _) = probes[0], probes[-1]
        for step, profiles in thinned(probes, PICTURES):
            at_end = (said, diverged) if step == last else ("", None)
            if step > self.pictured:
                name = f"after {step} steps"
                figure = figures.profile_figure(
                    title, profiles, first, self.span, theory, *at_end, name
                )
                self.recorder.figure("picture/profile", figure, step)
                self.pictured = step
        if len(probes) > 1:  # one moment has no course
            shown = thinned(probes, MOMENTS)
            course = {step: flow[leading(flow)].median for step, flow in shown}
            heatmap = figures.heatmap_figure(title, course, self.span, said, diverged)
            self.recorder.figure("picture/heatmap", heatmap, last)
        gc.collect()
        self.drawn = time.perf_counter()


def is_due(updates: int, every: int | None) -> bool:
    """Return whether a run that probes every so many updates does so after `updates` of them."""
    return every is not None and (updates % every == 0 or updates in EARLY)


def thinned(probes: list[Probe], count: int) -> list[Probe]:
    """Return at most `count` of them, evenly, the first and the last among them."""
    last = len(probes) - 1
    places = {round(place * last / (count - 1)) for place in range(count)}
    return [probes[place] for place in sorted(places)]
