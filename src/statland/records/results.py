"""Reads run folders into a table, one row per run."""

import math
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from rich.progress import track

from statland.data.base import EXACT
from statland.gradients.norms import log10_norm
from statland.records.files import METRICS, check_plain, read_flow
from statland.records.identity import is_neutral, read_identity
from statland.records.summary import NAME, loss_name, read_summary
from statland.settings import SettingError, flatten, printable

# A run has solved its market when two validations in a row are below this share of the loss of the
# best baseline that is not exact: one validation may be a spike, and nothing is below a tenth of 0.
SOLVED = 0.1


def load(*paths: Path | str) -> pd.DataFrame:
    """Return one row per run below `paths`: what it was, how it went, how far its gradient reached.

    Settings are columns named like their keys (model, model/init, data.max_days, seed, ...), and
    the baselines' losses like baseline/constant. A run without a summary has status unfinished;
    ended is when the others ended, in seconds since 1970. The frame's attrs["skipped"] names each
    folder that cannot be read, and why.
    """
    files = {f for path in paths for n in (METRICS, NAME, "run.json") for f in Path(path).rglob(n)}
    folders = sorted({file.parent for file in files}, key=_natural)
    rows, skipped = [], []
    for folder in track(folders, "reading runs", transient=True, disable=len(folders) < 50):
        try:
            rows.append(_row(folder))
        except Exception as error:  # whatever a damaged file makes of the reader
            skipped.append(printable(f"{folder}: {type(error).__name__}: {str(error)[:200]}"))
    _fill_neutral(rows)
    frame = pd.DataFrame(rows)
    frame.attrs["skipped"] = skipped
    return frame


def curve_of(folder: str) -> list[tuple[int, float]]:
    """Return the (step, validation loss) pairs of a run."""
    return _scalars(Path(folder), "loss/validation")[0]


def step_solved(curve: Iterable[tuple[int, float]], threshold: float) -> float:
    """Return the step of the first of two validations in a row below `threshold`; nan without one.

    `curve` holds (step, loss) pairs.
    """
    by_step = sorted(dict(curve).items())
    return next(
        (step for (step, loss), (_, later) in pairwise(by_step) if max(loss, later) < threshold),
        math.nan,
    )


def profiles_of(folder: str, diverged: bool = False) -> dict[str, list[float]]:
    """Return the median log10 flow to the inputs by lag, "before" training and "after".

    A run that diverged has nothing after training.
    """
    try:
        flows = [flow["x"].median.tolist() for flow in read_flow(Path(folder)).values()]
    except (OSError, SettingError, KeyError):
        return {}
    if not flows or diverged:
        return {"before": flows[0]} if flows else {}
    return {"before": flows[0], "after": flows[-1]}


def _fill_neutral(rows: list[dict[str, Any]]) -> None:
    """Give the neutral value of a setting to runs of before there was that setting."""
    neutral = {
        (group, row[group], key): value
        for row in rows
        for key, value in row.items()
        if (group := key.split(".")[0]) in ("model", "data", "optimizer") and is_neutral(value)
    }
    for (group, choice, key), value in neutral.items():
        for row in rows:
            if row[group] == choice:
                row.setdefault(key, value)


def _row(folder: Path) -> dict[str, Any]:
    """Return one run's row. Raises some error for files that are not a run's."""
    check_plain(folder)
    summary, file = read_summary(folder), folder / NAME
    if summary is None:
        identity = read_identity(folder)
        if identity is None or file.exists():
            raise ValueError("run.json is missing, or summary.json is truncated or not a run's")
        summary = {"status": "unfinished", "choices": identity.choices, "config": identity.settings}
    config, validation = summary["config"], summary.get("validation", {})
    longer = summary.get("longer", {}).get("after", {})
    baselines = {k: v for k, v in summary.get("baselines", {}).items() if v is not None}
    config.pop("folder", None)  # the run may have been moved
    config["steps_asked"] = config.pop("steps", None)  # steps are those that were made
    row = {
        **{group: printable(summary["choices"][group]) for group in ("model", "data")},
        "run": printable(folder.name),
        "folder": str(folder),
        "status": printable(summary["status"]),
        "error": printable(summary.get("error", "")),
        "ended": file.stat().st_mtime if file.exists() else math.nan,
        "published": _texts(config.pop("published", None) or {}),
        **{n: _number(summary.get(n)) for n in ("steps", "seconds", "parameters", "span")},
        "validation": _number(validation.get(loss_name(validation))),
        "skill": _number(validation.get("skill")),
        "accuracy": _number(validation.get("accuracy")),
        "longer_loss": _number(longer.get(loss_name(longer))),
        "longer_accuracy": _number(longer.get("accuracy")),
        **_of_course(folder, list(baselines.values()), summary.get("validation_again")),
        **{f"baseline/{printable(name)}": float(loss) for name, loss in baselines.items()},
    }
    gradient = summary.get("gradient", {})
    for when in ("before", "after"):
        row |= _of_gradient(gradient.get(when, {}), when)
    if summary["status"] == "diverged" and gradient:
        row["verdict_after"] = "diverged"
    own = _texts(flatten(config) | summary["choices"])
    for key, value in own.items():  # a report computes with these
        if isinstance(value, int) or key in ("seed", "data.max_days", "data.batch_size"):
            _number(value)
    return own | row  # folder is where the run is, not the setting


def _of_course(folder: Path, baselines: list[float], again: float | None) -> dict[str, Any]:
    """Return whether and when a run solved its market, and its speed.

    `again` is the loss on other companies at the end: where the last validation alone fell below,
    it is the second in a row.
    """
    tags = "loss/validation", "score/accuracy", "speed/steps_per_second"
    curve, accuracy, timed = _scalars(folder, *tags)
    curve += [(curve[-1][0] + 1, again)] if curve and again is not None else []
    threshold = SOLVED * min((loss for loss in baselines if loss >= EXACT), default=math.nan)
    solved = step_solved(curve, threshold)
    return {
        "best_baseline": min(baselines, default=math.nan),
        "solved_below": threshold,
        "solved": not math.isnan(solved),
        "steps_to_solve": solved,
        "accuracy_known": bool(accuracy),
        "steps_to_all_right": step_solved([(step, 1 - share) for step, share in accuracy], EXACT),
        "steps_per_second": median(speed for _, speed in timed) if timed else math.nan,
    }


def _of_gradient(found: dict[str, Any], when: str) -> dict[str, Any]:
    """Return what a summary says of the gradient before or after training.

    Runs that were measured by another yardstick, before there was an even share, have no verdict.
    """
    if "answer_zero" not in found:
        found = {key: found.get(key) for key in ("theory_decay_per_day", "lyapunov", "log10_dp_dw")}
    weights = [v for v in (found.get("log10_dp_dw") or {}).values() if v is not None]
    together = log10_norm(torch.tensor(weights, dtype=torch.float64)).item()
    numbers = {
        "share": -math.inf if found.get("answer_zero") else found.get("answer_share"),
        "weights_share": found.get("answer_share_of_weights"),
        "importance": found.get("answer_importance"),
        "reach": found.get("reach_days"),
        "decay": found.get("decay_per_day"),
        "first_to_last": found.get("first_to_last"),
        "theory": found.get("theory_decay_per_day"),
        "lyapunov": (found.get("lyapunov") or [None])[0],
        "log10_dp_dw": together if math.isfinite(together) else None,
    }
    row: dict[str, Any] = {f"{name}_{when}": _number(number) for name, number in numbers.items()}
    return row | {f"verdict_{when}": printable(found.get("verdict") or "-")}


def _scalars(folder: Path, *tags: str) -> list[list[tuple[int, float]]]:
    """Return each tag's values by step; a last line that is still being written is left out."""
    try:
        lines = (folder / METRICS).read_text(encoding="utf-8").split("\n")[:-1]
    except OSError:
        return [[] for _ in tags]
    found = []
    for inside in (f",{tag}," for tag in tags):
        pairs = (line.split(inside) for line in lines if inside in line)
        # By way of a float, which refuses a step that no table can hold.
        found.append([(int(float(step)), float(value)) for step, value in pairs])
    return found


def _texts(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as cells of a table: numbers, and texts that a screen can show.

    A list is a text too, as it cannot tell groups apart.
    """
    kinds = int | float | None
    return {
        printable(k): v if isinstance(v, kinds) else printable(str(v)) for k, v in values.items()
    }


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _natural(folder: Path) -> tuple[str, list[tuple[int, str]]]:
    """Sort max_days=25 before max_days=100."""
    parts = re.findall(r"\d+|\D+", folder.name)
    return str(folder.parent), [(int(p), "") if p.isdigit() else (-1, p) for p in parts]
