"""Runs side by side: a table with seeds folded, a verdict with error bars, and figures."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.table import Table

from statland.records.results import curve_of, profiles_of
from statland.training.evaluation import EXACT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Settings that describe no experiment, or whose values follow from the run.
ASIDE = ("seed", "runs_dir", "sweep", "device", "threads", "log_every", "validate_every")
ASIDE += ("probe_every",)

# Names of columns that are too long for a screen.
SHORT = {"steps_per_second": "steps/s", "decay_before": "decay before", "validation": "mse"}

# In this order settings are looked at for what tells runs apart.
FIRST = ("model", "data", "optimizer", "model/init", "data.max_days")


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
    from statland.report import figures as draw  # importing matplotlib takes a second

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


def _is_setting(column: str) -> bool:
    dotted = column.split(".")[0] in ("model", "data", "optimizer") and column not in ASIDE
    return dotted or column in ("model/init", "steps_asked", "clip_norm", "dtype")


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


def _number(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)
