"""One run: from settings to objects, to training, to measurements, to a run folder."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from statland.batch import Batch
from statland.records import checkpoint
from statland.records.checkpoint import State
from statland.records.identity import NAME, Identity, write_identity
from statland.records.lock import held
from statland.records.provenance import provenance
from statland.records.recorder import Recorder
from statland.settings import SettingError
from statland.training import screen
from statland.training.build import Built
from statland.training.config import KEPT, Settings, hyperparameters
from statland.training.device import seed_step
from statland.training.evaluation import baselines, evaluate, skill
from statland.training.fit import Diverged, Step, fit
from statland.training.prepare import Prepared, prepare
from statland.training.resume import resume_point
from statland.training.step_log import StepLog
from statland.training.stopping import Interrupted, signals_to
from statland.training.watch import GradientWatch

log = logging.getLogger(__name__)


def run(
    settings: Settings,
    folder: Path,
    choices: Mapping[str, str],
    console: Console | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Train and measure one model as `settings` say; return what summary.json holds.

    `choices` names the configs chosen for model, model/init, data and optimizer; `console` is where
    progress and results are printed. With `resume`, go on from the folder's last checkpoint; a run
    that was stopped before its first begins anew. Raises SettingError, before anything is written,
    where a setting cannot be or the folder holds another run.
    """
    return execute(prepare(settings, choices), folder, console, resume)


def execute(
    prepared: Prepared, folder: Path, console: Console | None = None, resume: bool = False
) -> dict[str, Any]:
    """Train and measure what has been prepared; see `run`."""
    started = time.perf_counter()
    settings, identity, built = prepared
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder):
        state = None
        if resume:
            state = resume_point(folder, identity, built.model, built.optimizer)
        elif (folder / NAME).exists():
            raise SettingError(f"{folder} holds a run already; allowed: a new folder")
        sizes, step = (state["sizes"], state["updates"]) if state is not None else (None, 0)
        asked: list[int] = []  # signals that ask to stop, from before anything is written
        with signals_to(lambda number, _: asked.append(number)), Recorder(folder, sizes, step) as r:
            write_identity(folder, identity)
            console = console or Console(markup=False)
            in_progress = Run(settings, identity, built, r, console, asked)
            if state is not None:
                in_progress.restore(state)
            return in_progress.record(started)


class Run:
    """A run in progress: what it is made of, and what it has seen so far."""

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        built: Built,
        recorder: Recorder,
        console: Console,
        asked: Sequence[int],
    ) -> None:
        """Prepare a run that stops, saved, once there is a signal in `asked`."""
        self.settings, self.identity, self.asked = settings, identity, asked
        self.choices = identity.choices
        self.market, self.model, self.optimizer = built
        self.recorder, self.console = recorder, console
        parameter = next(self.model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.baselines = baselines(self.market)
        self.held_out = [b.to(self.device, self.dtype) for b in self.market.validation()]
        self.validation: dict[str, float | None] = {}
        self.steps = StepLog(recorder, dict(self.model.named_parameters()), settings["log_every"])
        name = f"{self.choices['model']} on {self.choices['data']}"
        every, steps = settings["probe_every"], settings["steps"]
        span, is_spread = self.market.span, self.market.span_is_spread
        self.watch = GradientWatch(
            name, self.model, self.held_out, span, recorder, console, every, steps, is_spread
        )
        self.start = self.lost = 0  # where fit begins; steps running whose loss was not finite
        # What a longer run goes on from: without the rows that only the last step has.
        self.longer: dict[str, Any] | None = None

    def record(self, started: float) -> dict[str, Any]:
        """Train, measure, and write the run folder; return the summary."""
        if self.start == 0:
            text = yaml.safe_dump(self.identity.settings, sort_keys=False)
            self.recorder.hyperparameters(self.choices | hyperparameters(self.settings), text)
        screen.print_notes(self.console, self.market.notes)
        status = "failed"
        try:
            status = self.train()
        except (Interrupted, KeyboardInterrupt):
            status = "interrupted"
            screen.print_stopped(self.console, self.recorder.folder, self.steps.tally.updates)
            raise
        except Exception:
            log.exception("the run failed")
            raise
        finally:
            summary = self._summary(status, time.perf_counter() - started)
            self.recorder.summary(summary)
        examples = screen.examples(self.market, self.held_out[0], self.predictions[0])
        screen.print_result(self.console, summary, self.steps.tally, examples)
        screen.print_where(self.console, self.recorder.folder)
        if self.asked:  # when all steps were made
            raise Interrupted(128 + self.asked[0])
        return summary

    def train(self) -> str:
        """Fit the model, recording as it goes; return the status."""
        status, steps, clip_norm = "completed", self.settings["steps"], self.settings["clip_norm"]
        self.steps.seconds = time.perf_counter()
        with screen.Bar(self.console, self.choices["model"], steps) as bar:
            try:
                start = (self.start, self.lost)
                made = fit(self.model, self._train_batch, self.optimizer, steps, clip_norm, *start)
                for step in made:
                    self.steps.record_update()
                    self._save_if_due(step)
                    self._record_step(step, bar)
            except Diverged as diverged:
                log.warning("diverged: %s", diverged)
                status = "diverged"
        self._end_steps(status)
        self._validate(self.steps.tally.updates)
        self.watch.finish(self.steps.tally.updates, diverged=status == "diverged")
        return status

    def _record_step(self, step: Step, bar: screen.Bar) -> None:
        """Record what is due at a step whose raw gradients are in place."""
        self.watch.probe_if_due(step.index, bar.console)
        if step.index % self.settings["validate_every"] == 0:
            self._validate(step.index)
        self.lost = 0 if math.isfinite(step.loss) else step.lost + 1
        self.steps.add(step)
        is_due = self.steps.is_due(step.index)
        if not is_due and step.index == self.settings["steps"] - 1:
            self.longer = self.steps.point()
        if is_due or step.index == self.settings["steps"] - 1:
            bar.show(step, self.validation["mse"], self.steps.record_full(step))

    def _end_steps(self, status: str) -> None:
        """Write what is left to be written of the steps, and the last resume point."""
        self.steps.record_update()
        if self.longer is None:
            self.longer = self.steps.point()
        self.steps.flush()
        if status == "completed" and self.settings["checkpoint_every"] is not None:
            self._save(self.lost)

    def _save_if_due(self, step: Step) -> None:
        """Write a resume point where one is due, or where a signal asks to stop; then stop."""
        every = self.settings["checkpoint_every"]
        is_due = every is not None and step.index % every == 0 and step.index > self.start
        if is_due or self.asked:
            self._save(step.lost)
        if self.asked:
            raise Interrupted(128 + self.asked[0])

    def _save(self, lost: int) -> None:
        """Write a resume point after so many updates, none of the next step's records made."""
        facts = {
            "steps": self.steps.state(),
            "lost": lost,
            "validation": self.validation,
            "gradient": self.watch.gradient,
            "machine": {key: value for key, value in self.settings.items() if key in KEPT},
        }
        state = State(
            updates=self.steps.tally.updates,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            identity=self.identity._asdict(),
            facts=facts,
            sizes=self.recorder.sizes(),
            longer=self.longer,
        )
        checkpoint.save(self.recorder.folder, state)

    def restore(self, state: State) -> None:
        """Take the records up at the resume point that model and optimizer are in."""
        self.start, self.longer = state["updates"], state["longer"]
        facts = state["facts"]
        self.steps.restore(facts["steps"])
        self.lost, self.validation = facts["lost"], facts["validation"]
        self.watch.restore(facts["gradient"], self.start)

    def _train_batch(self, step: int) -> Batch:
        seed_step(self.device, self.settings["seed"], step)
        return self.market.train_batch(step).to(self.device, self.dtype)

    def _validate(self, updates: int) -> None:
        """Measure the model after so many updates."""
        scores, self.predictions = evaluate(self.model, self.market, self.held_out)
        self.validation = {**scores, "skill": skill(scores["mse"], self.baselines)}
        others = {f"score/{n}": value for n, value in self.validation.items() if n != "mse"}
        self.recorder.scalars(updates, {"loss/validation": scores["mse"], **others})
        log.info("after %d updates: %s", updates, self.validation)

    def _summary(self, status: str, seconds: float) -> dict[str, Any]:
        tally = self.steps.tally
        return {
            "status": status,
            "steps": tally.updates,
            "seconds": seconds,
            "choices": self.choices,
            "validation": self.validation,
            "baselines": self.baselines,
            "gradient": self.watch.gradient,
            "span": self.market.span,
            "span_is_spread": self.market.span_is_spread,
            "notes": list(self.market.notes),
            "clipped_steps": tally.clipped,
            "nonfinite_steps": tally.skipped,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "config": self.settings,
            "provenance": provenance(),
        }
