"""What runs have come to: run folders to a table, a row a run."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.progress import track
from yaml import YAMLError

from statland.records.recorder import read_summary
from statland.settings import flatten

# A run has solved its market when its loss is below this share of the best baseline's.
SOLVED = 0.1


def load(*paths: Path | str) -> pd.DataFrame:
    """One row a run below `paths`: what it was, how it went, and how far its gradient reached.

    Settings are columns named like their keys (model, model/init, data.max_days, seed, ...). A run
    without a summary has status unfinished. A folder that cannot be read is named, with the reason,
    in the frame's attrs["skipped"].
    """
    folders = sorted({f.parent for path in paths for f in _records(Path(path))}, key=_natural)
    rows, skipped = [], []
    for folder in track(folders, "reading runs", transient=True, disable=len(folders) < 50):
        try:
            rows.append(_read(folder))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, YAMLError) as error:
            skipped.append(f"{folder}: {type(error).__name__}: {str(error).splitlines()[0]}")
        except OmegaConfBaseException as error:
            skipped.append(f"{folder}: {str(error).splitlines()[0]}")
    frame = pd.DataFrame(rows)
    frame.attrs["skipped"] = skipped
    return frame


def curve_of(folder: str) -> list[tuple[int, float]]:
    """The (step, validation loss) pairs of a run."""
    return _scalars(Path(folder), "loss/validation")[0]


def profiles_of(folder: str) -> dict[str, list[float]]:
    """The median log10 flow of the state by lag, before training and after."""
    try:
        lines = (Path(folder) / "gradient_flow.csv").read_text(encoding="utf-8").splitlines()[1:]
        state = [line.split(",") for line in lines if ",state," in line]
        if not state:
            return {}
        ends = {"before": state[0][0], "after": state[-1][0]}
        return {
            when: [float(row[3]) for row in state if row[0] == step] for when, step in ends.items()
        }
    except (OSError, ValueError, IndexError):
        return {}


def _records(path: Path) -> Iterable[Path]:
    yield from path.rglob("metrics.csv")
    yield from path.rglob("summary.json")


def _read(folder: Path) -> dict[str, Any]:
    """One run's row. Raises ValueError, KeyError or TypeError where the files are not a run's."""
    summary = read_summary(folder)
    if summary is None and (folder / "summary.json").exists():
        raise ValueError("summary.json is truncated, or not a run's")
    if summary is None:
        hydra = OmegaConf.load(folder / ".hydra/hydra.yaml").hydra.runtime.choices
        groups = ("model", "model/init", "data", "optimizer")
        config = OmegaConf.load(folder / ".hydra/config.yaml")
        summary = {
            "status": "unfinished",
            "choices": {group: hydra[group] for group in groups},
            "config": OmegaConf.to_container(config, resolve=True),
        }
    settings = flatten(summary["config"]) | summary["choices"]
    # A list cannot tell groups apart.
    settings = {key: str(v) if isinstance(v, list) else v for key, v in settings.items()}
    settings["steps_asked"] = settings.pop("steps", None)  # steps are those that were made
    validation = summary.get("validation") or {}
    gradient = summary.get("gradient") or {}
    baselines = [value for value in (summary.get("baselines") or {}).values() if value is not None]
    best = min(baselines) if baselines else math.nan
    loss = _float(validation.get("mse"))
    curve, timed = _scalars(folder, "loss/validation", "speed/steps_per_second")
    speeds = [speed for _, speed in timed]
    row: dict[str, Any] = {
        "run": folder.name,
        "folder": str(folder),
        "status": summary["status"],
        "error": summary.get("error", ""),
        "steps": summary.get("steps"),
        "seconds": summary.get("seconds"),
        "validation": loss,
        "skill": _float(validation.get("skill")),
        "best_baseline": best,
        "solved": bool(loss < SOLVED * best),
        "steps_to_solve": next((s for s, v in curve if v < SOLVED * best), math.nan),
        "steps_per_second": float(np.median(speeds)) if speeds else math.nan,
        "span": _float(summary.get("span")),
    }
    for when in ("before", "after"):
        found = gradient.get(when) or {}
        row[f"reach_{when}"] = _float(found.get("reach_days"))
        row[f"reach_{when}_is_bounded"] = found.get("reach_is_bounded", True)
        row[f"decay_{when}"] = _float(found.get("decay_per_day"))
        row[f"first_to_last_{when}"] = _float(found.get("first_to_last"))
        row[f"lyapunov_{when}"] = _float((found.get("lyapunov") or [None])[0])
        row[f"theory_{when}"] = _float(found.get("theory_decay_per_day"))
    return row | settings


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


def _natural(folder: Path) -> Sequence[Any]:
    """Sort 2-... before 10-...."""
    number = folder.name.split("-")[0]
    return (str(folder.parent), int(number) if number.isdigit() else -1, folder.name)
