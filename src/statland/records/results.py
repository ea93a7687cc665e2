"""What runs have come to: run folders to a table, a row a run."""

import math
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.progress import track

from statland.data.base import EXACT
from statland.gradients.norms import log10_together
from statland.records.identity import read_identity
from statland.records.summary import read_summary
from statland.settings import flatten

# A run has solved its market when two validations running are below this share of the loss of the
# best baseline that is not exact: one validation may be a spike, and nothing is below a tenth of 0.
SOLVED = 0.1


def load(*paths: Path | str) -> pd.DataFrame:
    """One row a run below `paths`: what it was, how it went, and how far its gradient reached.

    Settings are columns named like their keys (model, model/init, data.max_days, seed, ...), and
    the baselines' losses like baseline/constant. A run without a summary has status unfinished;
    ended is when the others ended, in seconds since 1970. A folder that cannot be read is named,
    with the reason, in the frame's attrs["skipped"].
    """
    folders = sorted({f.parent for path in paths for f in _records(Path(path))}, key=_natural)
    rows, skipped = [], []
    for folder in track(folders, "reading runs", transient=True, disable=len(folders) < 50):
        try:
            rows.append(_read(folder))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            skipped.append(f"{folder}: {type(error).__name__}: {str(error).splitlines()[0]}")
    frame = pd.DataFrame(rows)
    frame.attrs["skipped"] = skipped
    return frame


def curve_of(folder: str) -> list[tuple[int, float]]:
    """The (step, validation loss) pairs of a run."""
    return _scalars(Path(folder), "loss/validation")[0]


def step_solved(curve: Iterable[tuple[int, float]], threshold: float) -> float:
    """The step of the first of two validations running below `threshold`; nan where none is.

    `curve` holds (step, loss) pairs.
    """
    by_step = sorted(dict(curve).items())
    return next(
        (step for (step, loss), (_, later) in pairwise(by_step) if max(loss, later) < threshold),
        math.nan,
    )


def profiles_of(folder: str) -> dict[str, list[float]]:
    """The median log10 flow to the inputs by lag, before training and after.

    Every model has inputs, so families can be put side by side.
    """
    try:
        lines = (Path(folder) / "gradient_flow.csv").read_text(encoding="utf-8").splitlines()[1:]
        inputs = [line.split(",") for line in lines if ",x," in line]
        if not inputs:
            return {}
        ends = {"before": inputs[0][0], "after": inputs[-1][0]}
        return {
            when: [float(row[3]) for row in inputs if row[0] == step] for when, step in ends.items()
        }
    except (OSError, ValueError, IndexError):
        return {}


def _records(path: Path) -> Iterable[Path]:
    for name in ("metrics.csv", "summary.json", "run.json"):
        yield from path.rglob(name)


def _read(folder: Path) -> dict[str, Any]:
    """One run's row. Raises ValueError, KeyError or TypeError where the files are not a run's."""
    summary = read_summary(folder)
    if summary is None and (folder / "summary.json").exists():
        raise ValueError("summary.json is truncated, or not a run's")
    if summary is None:
        identity = read_identity(folder)
        if identity is None:
            raise ValueError("run.json is missing")
        summary = {
            "status": "unfinished",
            "choices": identity.choices,
            "config": identity.settings,
        }
    config = dict(summary["config"])
    published = config.pop("published", None) or {}
    settings = flatten(config) | summary["choices"]
    # A list cannot tell groups apart.
    settings = {key: str(v) if isinstance(v, list) else v for key, v in settings.items()}
    settings["steps_asked"] = settings.pop("steps", None)  # steps are those that were made
    validation = summary.get("validation") or {}
    gradient = summary.get("gradient") or {}
    baselines = {k: float(v) for k, v in (summary.get("baselines") or {}).items() if v is not None}
    threshold = SOLVED * min((v for v in baselines.values() if v >= EXACT), default=math.nan)
    tags = "loss/validation", "score/accuracy", "speed/steps_per_second"
    curve, accuracy, timed = _scalars(folder, *tags)
    steps_to_solve = step_solved(curve, threshold)
    wrong = [(step, 1 - share) for step, share in accuracy]
    speeds = [speed for _, speed in timed]
    file = folder / "summary.json"
    row: dict[str, Any] = {
        "run": folder.name,
        "folder": str(folder),
        "status": summary["status"],
        "error": summary.get("error", ""),
        "ended": file.stat().st_mtime if file.exists() else math.nan,
        "steps": summary.get("steps"),
        "seconds": summary.get("seconds"),
        "parameters": _float(summary.get("parameters")),
        "validation": _float(validation.get("mse")),
        "skill": _float(validation.get("skill")),
        "best_baseline": min(baselines.values(), default=math.nan),
        "solved_below": threshold,
        "solved": not math.isnan(steps_to_solve),
        "steps_to_solve": steps_to_solve,
        "accuracy_known": bool(accuracy),
        "steps_to_all_right": step_solved(wrong, EXACT),
        "published": published,
        "steps_per_second": float(np.median(speeds)) if speeds else math.nan,
        "span": _float(summary.get("span")),
    }
    for when in ("before", "after"):
        found = gradient.get(when) or {}
        # By the inputs, which every model has, so that families can be put side by side.
        row[f"reach_{when}"] = _float(found.get("reach_inputs_days"))
        row[f"reach_{when}_is_bounded"] = found.get("reach_inputs_is_bounded", True)
        of_state = found.get("quantity") == "state"
        row[f"reach_state_{when}"] = _float(found.get("reach_days") if of_state else None)
        row[f"reach_state_{when}_is_bounded"] = found.get("reach_is_bounded", True)
        row[f"verdict_{when}"] = found.get("verdict") or "-"
        row[f"decay_{when}"] = _float(found.get("decay_per_day"))
        row[f"first_to_last_{when}"] = _float(found.get("first_to_last"))
        row[f"lyapunov_{when}"] = _float((found.get("lyapunov") or [None])[0])
        row[f"theory_{when}"] = _float(found.get("theory_decay_per_day"))
        row[f"log10_dp_dw_{when}"] = _together((found.get("log10_dp_dw") or {}).values())
    return row | {f"baseline/{name}": value for name, value in baselines.items()} | settings


def _scalars(folder: Path, *tags: str) -> list[list[tuple[int, float]]]:
    """The values of each tag by step; a last line that is still being written is left out."""
    try:
        lines = (folder / "metrics.csv").read_text(encoding="utf-8").split("\n")[:-1]
    except OSError:
        return [[] for _ in tags]
    found = []
    for inside in (f",{tag}," for tag in tags):
        pairs = (line.split(inside) for line in lines if inside in line)
        found.append([(int(step), float(value)) for step, value in pairs])
    return found


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def _together(log10: Iterable[float | None]) -> float:
    """Log10 of the norm over weights, given that of each; nan where there are none."""
    value = log10_together(torch.tensor([v for v in log10 if v is not None], dtype=torch.float64))
    return value if math.isfinite(value) else math.nan


def _natural(folder: Path) -> tuple[str, list[tuple[int, str]]]:
    """Sort max_days=25 before max_days=100."""
    parts = re.findall(r"\d+|\D+", folder.name)
    return str(folder.parent), [(int(p), "") if p.isdigit() else (-1, p) for p in parts]
