"""Run folders to a table, a verdict with error bars, and figures."""

import base64
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.progress import track
from rich.table import Table
from yaml import YAMLError

from statland.evaluation import EXACT
from statland.recorder import read_summary
from statland.settings import flatten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A run has solved its market when its loss is below this share of the best baseline's.
SOLVED = 0.1

# Settings that describe no experiment, or whose values follow from the run.
ASIDE = ("seed", "runs_dir", "sweep", "device", "threads", "log_every", "validate_every")
ASIDE += ("probe_every",)

# Names of columns that are too long for a screen.
SHORT = {"steps_per_second": "steps/s", "decay_before": "decay before", "validation": "mse"}

# In this order settings are looked at for what tells runs apart.
FIRST = ("model", "data", "optimizer", "model/init", "data.max_days")


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


def varying(runs: pd.DataFrame) -> list[str]:
    """The fewest settings that tell the runs' settings apart; those that follow are left out."""
    settings = [column for column in runs.columns if _is_setting(column)]
    settings.sort(key=lambda c: (FIRST.index(c) if c in FIRST else len(FIRST), c))
    chosen: list[str] = []
    groups = 1
    for column in settings:
        count = len(runs[[*chosen, column]].astype(str).drop_duplicates())
        if count > groups:
            chosen, groups = [*chosen, column], count
    return chosen


def constants(runs: pd.DataFrame) -> dict[str, Any]:
    """The settings in which the runs do not differ."""
    settings = [column for column in runs.columns if _is_setting(column)]
    return {
        column: runs[column].iloc[0]
        for column in settings
        if runs[column].notna().all() and runs[column].astype(str).nunique() == 1
    }


def fold(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a setting, seeds folded into mean and standard deviation.

    Losses and skills are over the runs that have them; n is how many. Every run counts in status.
    """
    keys = varying(runs) or ["model"]
    rows = []
    for values, group in runs.groupby(keys, sort=False, dropna=False):
        ended = group[group["validation"].notna()]
        solved = ended["solved"].sum()
        statuses = group["status"].value_counts()
        rows.append(
            dict(zip(keys, values, strict=True))
            | {
                "n": len(ended),
                "validation": ended["validation"].mean(),
                "validation_std": ended["validation"].std(),
                "skill": ended["skill"].mean(),
                "skill_std": ended["skill"].std(),
                "solved": f"{solved} of {len(group)}",
                "steps_to_solve": ended["steps_to_solve"].mean(),
                "reach_before": _reach(group, "before"),
                "reach_after": _reach(group, "after"),
                "span": group["span"].iloc[0],
                "decay_before": group["decay_before"].mean(),
                "decay_after": group["decay_after"].mean(),
                "decay_theory": group["theory_before"].mean(),
                "steps_per_second": group["steps_per_second"].mean(),
                "status": ", ".join(f"{count} {name}" for name, count in statuses.items()),
            }
        )
    return pd.DataFrame(rows)


def verdicts(runs: pd.DataFrame) -> list[str]:
    """For each market in question, the winner, or that nothing separates the contestants.

    A winner leads the next best by more than two standard errors of the mean difference, paired by
    seed, and beats the best baseline.
    """
    said = []
    for task, contest in contests(runs):
        name = _label(task) or "all runs"
        losses = contest.pivot_table(index="seed", columns="contestant", values="validation")
        means = losses.mean().sort_values()
        if len(means) < 2:
            continue
        first, second = means.index[:2]
        lead = (losses[second] - losses[first]).dropna()
        error = lead.std() / math.sqrt(len(lead)) if len(lead) > 1 else math.nan
        facts = f"{first} leads {second} by {lead.mean():.3g} ± {error:.2g} over {len(lead)} seeds"
        baseline = contest["best_baseline"].iloc[0]
        if baseline < EXACT:
            said.append(f"{name}: a baseline is exact, so nothing can win ({facts})")
        elif means.iloc[0] >= baseline:
            said.append(
                f"{name}: nothing beats the best baseline ({baseline:.4g}), so nothing is won and "
                f"nothing separates the models ({facts})"
            )
        elif lead.mean() > 2 * error:
            said.append(f"{name}: {first} wins ({facts})")
        else:
            said.append(f"{name}: nothing separates the best ({facts})")
    return said


def forecast(runs: pd.DataFrame) -> pd.DataFrame:
    """Does the reach before training foretell which runs solve their market? Counts of runs.

    Foretold is a run whose gradient reached as far as the answer lies, before training. Empty where
    no run knows its span.
    """
    known = _foretold(runs)
    if known.empty:
        return pd.DataFrame()
    reaches = known["reach_before"] >= known["span"]
    counts = pd.crosstab(
        np.where(reaches, "gradient reaches the answer", "gradient falls short"),
        np.where(known["solved"].astype(bool), "solved", "not solved"),
    )
    counts = counts.reindex(
        index=["gradient reaches the answer", "gradient falls short"],
        columns=["solved", "not solved"],
        fill_value=0,
    )
    return counts.rename_axis(index=None, columns=None)


def _foretold(runs: pd.DataFrame) -> pd.DataFrame:
    """The trained runs of markets that know where the answer lies, and that none solves exactly."""
    known = runs[runs["span"].notna() & runs["reach_before"].notna() & runs["validation"].notna()]
    return known[(known["best_baseline"] >= EXACT) & (known["steps"] > 0)]


def contests(runs: pd.DataFrame) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """The runs by market: its settings, and its runs with a column contestant for all others."""
    keys = varying(runs)
    markets = [key for key in keys if key.split(".")[0] == "data"]
    others = [key for key in keys if key not in markets]
    runs = runs.assign(
        contestant=[_label(dict(zip(others, v, strict=True))) or "all" for v in runs[others].values]
        if others
        else runs["model"]
    )
    if not markets:
        return [({}, runs)]
    return [
        (dict(zip(markets, values, strict=True)), group)
        for values, group in runs.groupby(markets, sort=False, dropna=False)
    ]


def figures(runs: pd.DataFrame) -> dict[str, "Figure"]:
    """Every figure that the runs allow, by name: curves, profiles, and a grid of two settings."""
    from statland import figures as draw  # importing matplotlib takes a second

    drawn = {}
    panels: dict[str, dict[str, list[Any]]] = {}
    flows: dict[str, dict[str, list[Any]]] = {}
    tasks = contests(runs)
    for task, contest in tasks:
        panel, flow = panels.setdefault(_label(task), {}), flows.setdefault(_label(task), {})
        for name, group in contest.groupby("contestant", sort=False):
            panel[name] = [curve for curve in map(curve_of, group["folder"]) if len(curve)]
            flow[name] = [both for both in map(profiles_of, group["folder"]) if both]
    drawn["validation"] = draw.curves_figure(panels, {
        _label(task): contest["best_baseline"].iloc[0] for task, contest in tasks
    })  # fmt: skip
    spans = {_label(task): contest["span"].iloc[0] for task, contest in tasks}
    drawn["profiles"] = draw.profiles_figure(flows, spans)
    known = _foretold(pd.concat([contest for _, contest in tasks]))
    if known["span"].nunique() > 1:
        drawn["forecast"] = draw.forecast_figure(known)
    grid = [k for k in varying(runs) if pd.api.types.is_numeric_dtype(runs[k])]
    if len(grid) == 2 and len(varying(runs)) == 2:
        columns = ["first_to_last_before", "validation", "lyapunov_before"]
        tables = [runs.pivot_table(index=grid[0], columns=grid[1], values=c) for c in columns]
        drawn["grid"] = draw.grid_figure(grid[1], grid[0], *tables)
    return drawn


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


def page(title: str, runs: pd.DataFrame, pictures: Mapping[str, "Figure"]) -> str:
    """One self-contained HTML page: what was the same, the table, the verdicts, the figures."""
    same = ", ".join(f"{key}={value}" for key, value in constants(runs).items())
    parts = [f"<h1>{html.escape(title)}</h1>", f"<p>In all runs: {html.escape(same)}</p>"]
    parts.append(told(fold(runs)).to_html(index=False, escape=True, border=0))
    parts += [f"<p class=verdict>{html.escape(line)}</p>" for line in verdicts(runs)]
    if not (hits := forecast(runs)).empty:
        parts.append("<h2>Does the reach before training foretell what is solved?</h2>")
        parts.append(hits.to_html(escape=True, border=0))
    for name, figure in pictures.items():
        file = io.BytesIO()
        figure.savefig(file, format="png")
        data = base64.b64encode(file.getvalue()).decode()
        parts.append(f'<img alt="{name}" src="data:image/png;base64,{data}">')
    others = runs[runs["status"] != "completed"]
    if len(others):
        parts.append("<h2>Runs that were not completed</h2>")
        parts.append(others[["run", "status", "error"]].to_html(index=False, border=0))
    if runs.attrs["skipped"]:
        parts.append("<h2>Folders that could not be read</h2>")
        parts += [f"<p>{html.escape(line)}</p>" for line in runs.attrs["skipped"]]
    style = (
        "body{font:15px/1.5 sans-serif;margin:2em auto;max-width:1500px;padding:0 1em}"
        "table{border-collapse:collapse;margin:1em 0;font-size:13px}th,td{white-space:nowrap;"
        "padding:.2em .7em;text-align:right;"
        "border-bottom:1px solid #ddd}img{max-width:100%;display:block;margin:1.5em 0}"
        ".verdict{font-weight:bold}"
    )
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{html.escape(title)}"
        f"</title><style>{style}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def told(folded: pd.DataFrame) -> pd.DataFrame:
    """The folded table as text: mean ± standard deviation, four figures at most."""
    table = folded.copy()
    for name in ("validation", "skill"):
        table[name] = [
            _number(mean) if math.isnan(std) else f"{_number(mean)} ± {std:.2g}"
            for mean, std in zip(table[name], table.pop(f"{name}_std"), strict=True)
        ]
    for column in table.columns:
        table[column] = [_number(v) if isinstance(v, float) else str(v) for v in table[column]]
    table = table.loc[:, [name in ("n", "mse") or (table[name] != "-").any() for name in table]]
    spaced = {name: name.replace("_", " ") for name in table.columns if "." not in name}
    return table.rename(columns=spaced | SHORT)


def table_of(frame: pd.DataFrame, title: str = "") -> Table:
    """Any frame of texts for the screen."""
    table = Table(title=title or None, title_justify="left", show_edge=False)
    for column in frame.columns:
        table.add_column(str(column), justify="right", overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*map(str, row))
    return table


def runs_table(runs: pd.DataFrame) -> Table:
    """One row a run, for the end of a sweep."""
    columns = ["run", "status", "validation", "skill", "reach_before", "reach_after", "span"]
    shown = runs[columns].copy()
    for column in columns[2:]:
        shown[column] = [_number(value) for value in shown[column]]
    return table_of(shown.rename(columns=lambda name: name.replace("_", " ")))


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


def _is_setting(column: str) -> bool:
    dotted = column.split(".")[0] in ("model", "data", "optimizer") and column not in ASIDE
    return dotted or column in ("model/init", "steps_asked", "clip_norm")


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


def _reach(group: pd.DataFrame, when: str) -> str:
    """The median reach over seeds, with a + where it is not bounded."""
    reaches = group[f"reach_{when}"].dropna()
    if reaches.empty:
        return "-"
    bounded = group.loc[reaches.index, f"reach_{when}_is_bounded"].astype(bool).all()
    return f"{reaches.median():g}{'' if bounded else '+'}"


def _label(settings: Mapping[str, Any]) -> str:
    """model=lstm, data.max_days=50 as lstm max_days=50."""
    groups = ("model", "data", "optimizer", "model/init")
    return " ".join(
        str(v) if k in groups else f"{k.split('.')[-1]}={v:g}" if isinstance(v, float)
        else f"{k.split('.')[-1]}={v}" for k, v in settings.items()
    )  # fmt: skip


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def _number(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def _natural(folder: Path) -> Sequence[Any]:
    """Sort 2-... before 10-...."""
    number = folder.name.split("-")[0]
    return (str(folder.parent), int(number) if number.isdigit() else -1, folder.name)
