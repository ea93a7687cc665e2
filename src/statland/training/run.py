"""One run: from settings to objects, to training, to measurements, to a run folder."""

import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from rich.console import Console

from statland.batch import Batch
from statland.data.base import Market
from statland.gradients.probe import probe_batch
from statland.records import checkpoint
from statland.records.checkpoint import State
from statland.records.files import check_new
from statland.records.identity import Identity, write_identity
from statland.records.lock import held
from statland.records.provenance import provenance
from statland.records.recorder import Recorder
from statland.records.summary import NAME as SUMMARY
from statland.records.summary import finite_json, write_summary
from statland.settings import printable
from statland.training import screen
from statland.training.build import Built, build, longer_market
from statland.training.config import KEPT, Settings, hyperparameters, without_machine
from statland.training.device import device_of, prepare_process, seed_step
from statland.training.fit import Diverged, Step, fit
from statland.training.step_log import StepLog
from statland.training.stopping import Interrupted, signals_to
from statland.training.validation import Validation
from statland.training.watch import GradientWatch, span_of

log = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """A run that can begin; nothing of it has been written yet."""

    settings: Settings
    identity: Identity
    built: Built
    varied: tuple[str, ...] = ()  # settings that the command line gives
    longer: Market | None = None  # at ages beyond those trained on


def prepare(settings: Settings, choices: Mapping[str, str], varied: Iterable[str] = ()) -> Prepared:
    """Seed, and build what the settings name. Raises SettingError if that is not possible.

    `choices` names the configs chosen for model, model/init, data and optimizer, `varied` the
    settings that the command line gives.
    """
    prepare_process(settings["threads"])
    torch.manual_seed(settings["seed"])
    built = build(settings, device_of(settings["device"]))
    plain = finite_json(without_machine(settings))
    identity = Identity(plain, dict(built.market.fingerprint), dict(choices))
    return Prepared(settings, identity, built, tuple(varied), longer_market(settings))


def execute(
    prepared: Prepared, folder: Path, console: Console | None = None, resume: bool = False
) -> dict[str, Any]:
    """Train and measure what has been prepared; return what summary.json holds.

    Progress and results are printed on `console`. With `resume` the run continues from the folder's
    checkpoint; a run that has none yet begins anew. Raises SettingError, before anything is
    written, if the folder holds another run.
    """
    started = time.perf_counter()
    identity, (_, model, optimizer) = prepared.identity, prepared.built
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder):
        state = checkpoint.resume_point(folder, identity) if resume else None
        if state is not None:
            checkpoint.load_into(folder, state, model, optimizer)
        else:
            check_new(folder)
        signals: list[int] = []  # that ask to stop, from before anything is written
        with signals_to(lambda number, _: signals.append(number)):
            # In this order: a kill leaves a run that resume= takes, and that has not ended.
            (folder / SUMMARY).unlink(missing_ok=True)
            write_identity(folder, identity)
            with Recorder(folder, state["updates"] if state else 0) as recorder:
                in_progress = Run(prepared, recorder, console or Console(markup=False), signals)
                if state is not None:
                    in_progress.restore(state)
                return in_progress.record(started)


class Run:
    """A run in progress: what it is made of, and what it has seen so far."""

    def __init__(
        self, prepared: Prepared, recorder: Recorder, console: Console, asked: Sequence[int] = ()
    ) -> None:
        """Prepare a run that saves and stops as soon as there is a signal in `asked`."""
        self.settings, self.identity, built, self.varied, longer = prepared
        self.market, self.model, self.optimizer = built
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.recorder, self.console, self.asked = recorder, console, asked
        self.choices = self.identity.choices
        parameter = next(self.model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.validation = Validation(self.model, self.market, longer, recorder)
        self.steps = StepLog(recorder, self.model, self.settings["log_every"])
        name = f"{self.choices['model']} on {self.choices['data']}"
        batch, every = probe_batch(self.validation.batches), self.settings["probe_every"]
        seen = batch, self.market.answer(batch)
        span = span_of(self.market.answer, self.validation.batches)
        self.watch = GradientWatch(name, self.model, *seen, span, recorder, console, every)
        self.start = self.lost = 0  # where fit begins; steps in a row without a finite loss

    def record(self, started: float) -> dict[str, Any]:
        """Train, measure, and write the run folder; return the summary."""
        if self.start == 0:
            text = yaml.safe_dump(self.identity.settings, sort_keys=False)
            shown = hyperparameters(self.settings, self.choices, self.varied)
            self.recorder.hyperparameters(shown | {"parameters": self.parameters}, text)
        for note in self.market.notes:
            self.console.print(printable(note), highlight=False, soft_wrap=True)
            log.info(note)
        status = "failed"
        try:
            status = self.train()
        except (Interrupted, KeyboardInterrupt):
            status = "interrupted"
            stopped = self.recorder.folder, self.steps.updates, self.settings["trust"]
            screen.print_stopped(self.console, *stopped)
            raise
        except Exception:
            log.exception("the run failed")
            raise
        finally:
            summary = self._summary(status, time.perf_counter() - started)
            write_summary(self.recorder.folder, summary)
        examples = screen.examples(
            self.market, self.model, self.validation.batches[0].of_last_day()
        )
        screen.print_result(self.console, summary, examples)
        screen.print_where(self.console, self.recorder.folder)
        if self.asked:  # when all steps were made
            raise Interrupted(128 + self.asked[0])
        return summary

    def train(self) -> str:
        """Fit the model, recording every step; return the status."""
        status, steps, clip_norm = "completed", self.settings["steps"], self.settings["clip_norm"]
        start = self.start, self.lost
        self.steps.seconds = time.perf_counter()
        with screen.Bar(self.console, self.choices["model"], steps) as bar:
            try:
                batches = self._train_batch
                for step in fit(self.model, batches, self.optimizer, steps, clip_norm, *start):
                    self.steps.record_update()
                    self._save_if_due(step.index)
                    self._record_step(step, bar)
            except Diverged as diverged:
                log.warning("diverged: %s", diverged)
                status = "diverged"
        self.steps.record_update()
        if status == "completed" and self.settings["checkpoint_every"] is not None:
            self._save()
        self.validation.score(self.steps.updates)
        if status == "completed":
            self.validation.score_trained(self.steps.updates)
        self.watch.finish(self.steps.updates, diverged=status == "diverged")
        return status

    def _record_step(self, step: Step, bar: screen.Bar) -> None:
        """Record what is due at a step whose raw gradients are in place."""
        self.watch.probe_if_due(step.index, bar.console)
        if step.index % self.settings["validate_every"] == 0:
            self.validation.score(step.index)
        self.lost = 0 if math.isfinite(step.loss) else self.lost + 1
        speed = self.steps.add(step, is_last=step.index == self.settings["steps"] - 1)
        if speed is not None:
            bar.show(step, self.validation.loss, speed)

    def _save_if_due(self, updates: int) -> None:
        """Write a checkpoint if one is due, or if a signal asks to stop; then stop."""
        every = self.settings["checkpoint_every"]
        if self.asked:
            self._save()
            raise Interrupted(128 + self.asked[0])
        if every is not None and updates % every == 0 and updates > self.start:
            self._save()
            self.watch.draw_if_old()

    def _save(self) -> None:
        """Write a checkpoint after the updates so far, none of the next step's records made."""
        self.recorder.flush()
        facts = {
            "steps": self.steps.state(),
            "lost": self.lost,
            **self.validation.facts(),
            "gradient": self.watch.gradient,
            "machine": {key: value for key, value in self.settings.items() if key in KEPT},
        }
        updates, weights = self.steps.updates, self.model.state_dict()
        moments = self.optimizer.state_dict()
        state = State(updates=updates, model=weights, optimizer=moments, facts=facts)
        checkpoint.save(self.recorder.folder, state)

    def restore(self, state: State) -> None:
        """Continue from the checkpoint whose weights model and optimizer have."""
        self.start, facts = state["updates"], state["facts"]
        self.steps.restore(facts["steps"])
        self.lost = facts["lost"]
        self.validation.restore(facts)
        self.watch.restore(facts["gradient"], self.start)

    def _train_batch(self, step: int) -> Batch:
        seed_step(self.device, self.settings["seed"], step)
        return self.market.train_batch(step).to(self.device, self.dtype)

    def _summary(self, status: str, seconds: float) -> dict[str, Any]:
        steps = self.steps
        return {
            "status": status,
            "steps": steps.updates,
            "seconds": seconds,
            "choices": self.choices,
            **self.validation.facts(),
            "validation_again": self.validation.again,
            "baselines": self.validation.baselines,
            "gradient": self.watch.gradient,
            "span": self.watch.span,
            "notes": list(self.market.notes),
            "clipped_steps": steps.clipped,
            "nonfinite_steps": steps.skipped,
            "parameters": self.parameters,
            "config": self.settings,
            "provenance": provenance(),
        }
