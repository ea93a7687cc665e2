"""The gradient flow of a run: measured when it is due, recorded, put into words, drawn."""

import gc
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from torch import Tensor, nn

from statland.batch import Batch
from statland.gradients.probe import WEIGHTS, Measured, measure, measure_in_full
from statland.gradients.share import Profile
from statland.gradients.words import verdict
from statland.records.files import read_flow
from statland.training.outlook import outlook

if TYPE_CHECKING:  # importing TensorBoard takes a second
    from statland.records.recorder import Recorder

log = logging.getLogger(__name__)

# Probes are dense where training moves most: after so many updates, then every probe_every.
EARLY = {0, 10, 100}

REDRAW_SECONDS = 60  # age of the figures at which a resume point draws them anew

Probe = tuple[int, dict[str, Profile]]  # updates made, and the profiles by quantity

MOMENTS = 512  # of training; a heatmap has no room for more


class GradientWatch:
    """Measures how far a model's gradient reaches, before, during and after training."""

    def __init__(
        self,
        name: str,
        model: nn.Module,
        batch: Batch,
        answer: Tensor | None,
        span: int | None,
        recorder: "Recorder",
        console: Console,
        every: int | None,
        **options: Any,
    ) -> None:
        """Watch a model on a batch, probing every so many updates; None: never.

        `answer` and `options` are those of `measure`; `span` is how many days back the answer is.
        """
        self.name, self.model, self.batch, self.options = name, model, batch, options
        self.answer, self.span = answer, span
        self.recorder, self.console, self.every = recorder, console, every
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
        is_first = self.every is not None and "before" not in self.gradient
        if is_first or is_due(updates, self.every):
            self.probe(updates)
        if is_first:
            self._report("before", console)

    def finish(self, updates: int, diverged: bool = False) -> None:
        """Measure the trained model, and draw. Of a run that diverged nothing more is measured."""
        if self.every is None:
            return
        if diverged:
            self._say(f"diverged after {updates} steps", updates, self.console)
        else:
            if self.last is None or self.last[0] != updates:
                self.probe(updates)
            self._report("after" if updates else "before", self.console)
            if updates == 0:  # nothing was trained: before is after
                self.gradient["after"] = self.gradient["before"]
        self._draw(updates if diverged else None)

    def probe(self, updates: int) -> None:
        """Record how far the gradient reaches after so many updates."""
        measured = measure(self.model, self.batch, self.answer, **self.options)
        self.recorder.scalars(updates, measured.scalars)
        self.recorder.flow(updates, measured.profiles)
        self.last = updates, measured

    def draw_if_old(self) -> None:
        """Draw anew if the figures are older than a minute, and there has been a probe since."""
        is_new = self.last is not None and self.last[0] > self.pictured
        if is_new and time.perf_counter() - self.drawn > REDRAW_SECONDS:
            self._draw()

    def _report(self, when: str, console: Console) -> None:
        """Record and print, before or after training, how far the gradient reaches."""
        assert self.last is not None
        step, measured = self.last
        full = measure_in_full(self.model, self.batch, self.answer, measured, **self.options)
        self.recorder.scalars(step, full.scalars)
        if WEIGHTS in full.profiles:
            self.recorder.flow(step, {WEIGHTS: full.profiles[WEIGHTS]})
        self.gradient[when] = full.gradient
        self._record_profiles(when, full.profiles)
        line = f"{when} training the gradient {self._verdict(when)}"
        if when == "before" and (told := outlook(measured.scalars["gradient/answer_share"])):
            line += f"; {told}"
        self._say(line, step, console)

    def _say(self, line: str, step: int, console: Console) -> None:
        """Print a sentence, log it, and write it to TensorBoard."""
        self.recorder.text("gradient/verdict", line, step)
        console.print(line, highlight=False, soft_wrap=True)
        log.info(line)

    def _verdict(self, when: str) -> str:
        return verdict(self.gradient[when], self.span, trained=when == "after")

    def _record_profiles(
        self, when: str, profiles: Mapping[str, Profile], first_lag: int = 0
    ) -> None:
        """Write TensorBoard's profiles of before or after training, from a lag on."""
        for tag, quantity in {"profile": "x", "profile_weights": WEIGHTS}.items():
            if quantity in profiles:
                median = profiles[quantity].median
                self.recorder.profile(f"{tag}/{when}_training", median, first_lag)

    def _draw(self, diverged: int | None = None) -> None:
        """Draw the profile of the last probe, and the heatmap of all so far.

        `diverged` is the number of updates after which training has.
        """
        from statland.gradients import figures  # importing matplotlib takes a second

        title = f"{self.recorder.folder.name}: {self.name}"
        probes = list(read_flow(self.recorder.folder).items())
        said = self._verdict("after") if "after" in self.gradient else ""
        said = said if diverged is None else f"diverged at step {diverged}"
        importance = {when: dict(found["importance"]) for when, found in self.gradient.items()}
        if self.span is not None:
            for when, found in self.gradient.items():
                importance[when][self.span] = found["answer_importance"]
        step, profiles = probes[-1]
        profile = figures.profile_figure(
            title,
            profiles,
            probes[0][1],
            span=self.span,
            theory=self.gradient["before"]["theory_decay_per_day"],
            subtitle=said,
            name=f"after {step} steps",
            importance=importance,
        )
        self.recorder.figure("picture/profile", profile, step)
        if len(probes) > 1:  # one moment has no course
            course = {step: flow["x"].median for step, flow in thinned(probes, MOMENTS)}
            heatmap = figures.heatmap_figure(title, course, self.span, said)
            self.recorder.figure("picture/heatmap", heatmap, step)
        gc.collect()
        self.drawn, self.pictured = time.perf_counter(), step


def is_due(updates: int, every: int | None) -> bool:
    """Return whether a run that probes every so many updates does so after `updates` of them."""
    return every is not None and (updates % every == 0 or updates in EARLY)


def thinned(probes: list[Probe], count: int) -> list[Probe]:
    """Return at most `count` of them, evenly, the first and the last among them."""
    last = len(probes) - 1
    places = {round(place * last / (count - 1)) for place in range(count)}
    return [probes[place] for place in sorted(places)]


def span_of(answer: Callable[[Batch], Tensor | None], batches: Iterable[Batch]) -> int | None:
    """Return how many days back the farthest day of an answer lies; None if it is not known."""
    farthest = []
    for batch in batches:
        if (marked := answer(batch)) is None:
            return None
        lags = batch.lengths[:, None] - 1 - batch.days
        farthest.append(int(lags.where(marked, 0).max()))
    return max(farthest)
