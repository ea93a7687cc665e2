"""One run: from a config to objects, to training, to measurements, to a run folder."""

import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from statland.batch import Batch
from statland.data.base import Market
from statland.gradients.norms import log10, parameter_norms, update_ratios
from statland.models.base import RecurrentModel
from statland.records import checkpoint
from statland.records.lock import release, take
from statland.records.provenance import provenance
from statland.records.recorder import Recorder, check_records, discard, read_flow, read_summary
from statland.settings import SettingError, flatten
from statland.training import screen
from statland.training.build import build, check, device_of, prepare_process
from statland.training.evaluation import baselines, evaluate, skill
from statland.training.fit import Diverged, Step, Tally, fit
from statland.training.stopping import Interrupted, signals_to
from statland.training.watch import GradientWatch

log = logging.getLogger(__name__)

# What describes the machine and the records, not the experiment: no hyper-parameters.
MACHINE = {"runs_dir", "sweep", "device", "threads", "resume", "checkpoint_every"}
NOT_HYPERPARAMETERS = MACHINE | {"log_every", "validate_every", "probe_every"}


def run(
    config: DictConfig,
    folder: Path,
    choices: Mapping[str, str],
    console: Console | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Train and measure one model as `config` says; return what summary.json holds.

    `choices` names the configs chosen for model, model/init, data and optimizer; what there is to
    say is said on `console`. With `resume`, go on from the folder's last checkpoint; one that was
    stopped before its first begins anew.
    Raises SettingError, before anything is written, where the config cannot be.
    """
    started = time.perf_counter()
    settings = check(config)
    prepare_process(settings["threads"])
    torch.manual_seed(settings["seed"])
    market, model, optimizer = build(config, device_of(settings["device"]))
    folder.mkdir(parents=True, exist_ok=True)
    take(folder)
    try:
        state = _resume_point(folder, settings, model, optimizer) if resume else None
        with Recorder(folder, state and state["sizes"]) as recorder:
            parts = (market, model, optimizer, recorder, console or Console(markup=False))
            in_progress = Run(settings, choices, *parts)
            if state is not None:
                in_progress.restore(state)
            return in_progress.record(started)
    finally:
        release(folder)


def _resume_point(
    folder: Path,
    settings: Mapping[str, Any],
    model: RecurrentModel,
    optimizer: torch.optim.Optimizer,
) -> dict[str, Any] | None:
    """Give model and optimizer the last checkpoint's state, and return it.

    A run that was stopped before its first begins anew: what it left is removed. Raises
    SettingError, before anything is touched, where the checkpoint, the records and the settings do
    not belong together.
    """
    state = checkpoint.load(folder)
    if state is None:
        earlier = read_summary(folder)
        if earlier is not None and earlier["status"] in ("completed", "diverged"):
            raise SettingError(
                f"{folder} holds a run that is {earlier['status']}, and no checkpoint to go on from"
            )
        discard(folder)
        return None
    if state["updates"] > settings["steps"]:
        raise SettingError(
            f"steps is {settings['steps']}, and the run has made {state['updates']} already; "
            f"allowed: at least so many"
        )
    if state["updates"] < settings["steps"]:
        state |= (state["longer"] or {}) | {"longer": None}
    check_records(folder, state["sizes"])
    read_flow(folder)
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise SettingError(f"{folder}: the checkpoint is of another model: {error}") from error
    return state


class Run:
    """A run in progress: what it is made of, and what it has seen so far."""

    def __init__(
        self,
        settings: dict[str, Any],
        choices: Mapping[str, str],
        market: Market,
        model: RecurrentModel,
        optimizer: torch.optim.Optimizer,
        recorder: Recorder,
        console: Console,
    ) -> None:
        self.settings, self.choices = settings, choices
        self.market, self.model, self.optimizer = market, model, optimizer
        self.recorder, self.console = recorder, console
        self.parameters = dict(model.named_parameters())
        parameter = next(model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.baselines = baselines(market)
        self.held_out = [batch.to(self.device, self.dtype) for batch in market.validation()]
        self.validation: dict[str, float | None] = {}
        self.tally = Tally()
        self.watch = GradientWatch(
            f"{choices['model']} on {choices['data']}",
            model,
            self.held_out,
            market.span,
            recorder,
            console,
            settings["probe_every"],
            settings["steps"],
        )
        # The last logged step: how many were made and clipped by then, and when that was.
        self.logged = (0, 0, time.perf_counter())
        # Copies of the parameters, while a logged step waits for its update.
        self.before: dict[str, torch.Tensor] | None = None
        self.start = self.lost = 0  # where fit begins; steps running whose loss was not finite
        # What a longer run goes on from: without the rows of a last step that were not due.
        self.longer: dict[str, Any] | None = None
        self.signal: int | None = None  # one that asks to stop

    def record(self, started: float) -> dict[str, Any]:
        """Train, measure, and write the run folder; return the summary."""
        if self.start == 0:
            self.recorder.hyperparameters(self._hyperparameters(), OmegaConf.to_yaml(self.settings))
        status = "failed"
        with signals_to(self._ask_to_stop):
            try:
                status = self.train()
            except (Interrupted, KeyboardInterrupt):
                status = "interrupted"
                raise
            except Exception:
                log.exception("the run failed")
                raise
            finally:
                summary = self._summary(status, time.perf_counter() - started)
                self.recorder.summary(summary)
            self._report(summary)
        if self.signal is not None:  # it came when all steps were made
            raise Interrupted(128 + self.signal)
        return summary

    def train(self) -> str:
        """Fit the model, recording as it goes; return the status."""
        steps, clip_norm = self.settings["steps"], self.settings["clip_norm"]
        status = "completed"
        self.logged = (*self.logged[:2], time.perf_counter())
        with screen.Bar(self.console, self.choices["model"], steps) as bar:
            try:
                for step in fit(
                    self.model,
                    self._train_batch,
                    self.optimizer,
                    steps,
                    clip_norm,
                    self.start,
                    self.lost,
                ):
                    self._log_update()
                    self._save_if_due(step)
                    self.tally.add(step)
                    self.watch.probe_if_due(step.index, bar.console)
                    if step.index % self.settings["validate_every"] == 0:
                        self._validate(step.index)
                    self.lost = 0 if math.isfinite(step.loss) else step.lost + 1
                    if step.index % self.settings["log_every"] == 0:
                        self._log_step(step, bar)
                    elif step.index == steps - 1:
                        sizes, logged = self.recorder.sizes(), self.logged[:2]
                        self.longer = {"sizes": sizes, "logged": logged}
                        self._log_step(step, bar)
            except Diverged as diverged:
                log.warning("diverged: %s", diverged)
                status = "diverged"
        self._log_update()
        if status == "completed" and self.settings["checkpoint_every"] is not None:
            self._save(self.lost)
        self._validate(self.tally.updates)
        self.watch.finish(self.tally.updates)
        return status

    def _ask_to_stop(self, signal: int, _: object) -> None:
        self.signal = signal

    def _save_if_due(self, step: Step) -> None:
        """Write a resume point where one is due, or where a signal asks to stop; then stop."""
        every = self.settings["checkpoint_every"]
        is_due = every is not None and step.index % every == 0 and step.index > self.start
        if is_due or self.signal is not None:
            self._save(step.lost)
        if self.signal is not None:
            raise Interrupted(128 + self.signal)

    def _save(self, lost: int) -> None:
        """Write a resume point after so many updates, none of the next step's records made."""
        facts = {
            "tally": asdict(self.tally),
            "lost": lost,
            "validation": self.validation,
            "gradient": self.watch.gradient,
        }
        state = {
            "updates": self.tally.updates,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "facts": json.dumps(facts),
            "sizes": self.recorder.sizes(),
            "logged": self.logged[:2],
            "longer": self.longer,
        }
        checkpoint.save(self.recorder.folder, state)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the records up at the resume point that model and optimizer are in."""
        self.start, self.longer = state["updates"], state["longer"]
        facts = json.loads(state["facts"])
        self.tally = Tally(**facts["tally"])
        self.lost, self.validation = facts["lost"], facts["validation"]
        self.logged = (*state["logged"], time.perf_counter())
        self.watch.restore(facts["gradient"])

    def _train_batch(self, step: int) -> Batch:
        return self.market.train_batch(step).to(self.device, self.dtype)

    def _log_step(self, step: Step, bar: screen.Bar) -> None:
        """Record a step whose raw gradients are in place."""
        earlier = self.logged
        self.logged = (self.tally.updates, self.tally.clipped, time.perf_counter())
        made, clipped, seconds = (
            now - then for now, then in zip(self.logged, earlier, strict=True)
        )
        speed = made / seconds
        norms = parameter_norms(self.parameters)
        self.recorder.scalars(
            step.index,
            {
                "loss/train": step.loss,
                "grad_norm/total": step.gradient_norm,
                "grad_norm/log10_total": log10(step.gradient_norm),
                "grad_norm/clipped_fraction": clipped / made,
                **{f"grad_norm_parameter/{name}": norm for name, norm in norms.items()},
                **{f"grad_norm_parameter_log10/{n}": log10(norm) for n, norm in norms.items()},
                "health/nonfinite_steps": self.tally.skipped,
                "speed/steps_per_second": speed,
            },
        )
        self.before = {n: p.detach().clone() for n, p in self.parameters.items()}
        bar.show(step, self.validation["mse"], speed)

    def _log_update(self) -> None:
        """Record the update that followed the last step, if that one was logged."""
        if self.before is not None:
            ratios = update_ratios(self.before, self.parameters)
            tagged = {f"update_ratio/{name}": ratio for name, ratio in ratios.items()}
            self.recorder.scalars(self.tally.updates - 1, tagged)
            self.before = None

    def _validate(self, updates: int) -> None:
        """Measure the model after so many updates."""
        scores, self.predictions = evaluate(self.model, self.market, self.held_out)
        self.validation = scores | {"skill": skill(scores["mse"], self.baselines)}
        tagged = {f"{name}/validation": value for name, value in self.validation.items()}
        self.recorder.scalars(updates, {"loss/validation": tagged.pop("mse/validation"), **tagged})
        log.info("after %d updates: %s", updates, self.validation)

    def _hyperparameters(self) -> dict[str, Any]:
        """The settings as flat keys, the choices among them."""
        flat = flatten(self.settings)
        return self.choices | {k: v for k, v in flat.items() if k not in NOT_HYPERPARAMETERS}

    def _summary(self, status: str, seconds: float) -> dict[str, Any]:
        return {
            "status": status,
            "steps": self.tally.updates,
            "seconds": seconds,
            "choices": dict(self.choices),
            "validation": self.validation,
            "baselines": self.baselines,
            "gradient": self.watch.gradient,
            "span": self.market.span,
            "clipped_steps": self.tally.clipped,
            "nonfinite_steps": self.tally.skipped,
            "parameters": sum(p.numel() for p in self.parameters.values()),
            "config": self.settings,
            "provenance": provenance(),
        }

    def _report(self, summary: dict[str, Any]) -> None:
        """Tell on the screen what came out."""
        tell = partial(self.console.print, highlight=False, soft_wrap=True)
        if summary["status"] == "diverged":
            tell(f"diverged: after {self.tally.updates} steps the loss is not finite", style="bold")
        tell(screen.closing_table(summary, self.validation["skill"] is None))
        tell(screen.examples_table(self._examples()))
        tell(screen.norms_line(self.tally))
        tell(screen.where(_short_path(self.recorder.folder)))

    def _examples(self) -> list[tuple[list[float], float, float]]:
        """The first four validation companies: their days, tomorrow, the prediction."""
        batch, predictions = self.held_out[0], self.predictions[0]
        examples = []
        for company in range(min(4, len(batch.y))):
            days = int(batch.lengths[company])
            history = batch.x[company, :days, 0].tolist()
            examples.append((history, batch.y[company, 0].item(), predictions[company, 0].item()))
        return examples


def _short_path(path: Path) -> Path:
    """Relative to here, where it is below here."""
    path = path.resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
