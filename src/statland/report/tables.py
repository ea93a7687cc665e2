"""Tables as text: numbers formatted, columns chosen for the screen."""

import math
import re
from typing import Any

import numpy as np
import pandas as pd
from rich.cells import cell_len
from rich.table import Table

from statland.report.forecast import Forecast
from statland.report.groups import label

# Names of columns, where they are not the settings' own.
HEADERS = {"validation": "last loss", "steps_to_solve": "steps"}

# What a screen shows beside the rows' settings, the most important first.
ON_SCREEN = (
    *("solved", "steps", "last loss", "share", "importance", "accuracy", "longer accuracy"),
    *("longer loss", "reach", "gradient", "n", "skill", "sequences to solve"),
    *("sequences to all right", "span", "parameters", "decay", "decay theory"),
)

# What is measured before training and after it, and shown in one column.
MEASURED = {"share": ".1f", "importance": ".2f", "reach": "g", "decay": ".3g", "log10_dp_dw": ".3g"}

# How a formula begins: not a number, nor a lone hyphen.
FORMULA = re.compile(r"(?![+-]?[\d.]+(e[+-]?\d+)?$)[=+@-].", re.IGNORECASE | re.DOTALL)

# A longer table is printed market by market.
LONGEST = 12


def format_summary(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary as text: mean ± standard deviation, four figures at most; no empty columns.

    What is measured before and after training has one column, as a -> b.
    """
    table = summary.copy()
    diverged = summary["gradient"].str.contains("diverged")
    for name, form in MEASURED.items():
        place = list(table).index(f"{name}_before")
        both = table.pop(f"{name}_before"), table.pop(f"{name}_after"), diverged
        table.insert(place, name, [before_after(form, *row) for row in zip(*both, strict=True)])
    for name in ("validation", "skill"):
        table[name] = [
            _number(mean) if math.isnan(std) else f"{mean:.3g} ± {std:.1g}"
            for mean, std in zip(table[name], table.pop(f"{name}_std"), strict=True)
        ]
    for name in ("steps_to_solve", "sequences_to_solve", "sequences_to_all_right"):
        if name in table:
            table[name] = table[name].map(_count)
    low, high = table.pop("solved_low"), table.pop("solved_high")
    interval = [f"{a:.0%} to {b:.0%}" if a == a else "-" for a, b in zip(low, high, strict=True)]
    table.insert(list(table).index("solved") + 1, "solved_interval", interval)
    table = table.map(_number)
    kept = [name for name in table if name in ("n", "validation") or (table[name] != "-").any()]
    return table[kept].rename(columns=_headers(table))


def format_tests(tests: pd.DataFrame) -> pd.DataFrame:
    """The table of verdicts as text."""
    shown = tests.assign(shown=np.where(tests["shown"], "yes", "no")).map(_number)
    return shown.rename(columns={"low": "95% low", "high": "95% high"})


def forecast_tables(forecast: Forecast) -> list[pd.DataFrame]:
    """The forecast's tables as text: ROC areas, and where the word errs."""
    tables = [forecast.areas, forecast.counts]
    return [table.map(_number) for table in tables if len(table)]


def csv_text(frame: pd.DataFrame) -> str:
    """A table as CSV; a text that a spreadsheet would take for a formula has a quote before it."""

    def safe(value: Any) -> Any:
        return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value

    return frame.map(safe).rename(columns=safe).to_csv(index=False)


def for_screen(table: pd.DataFrame, settings: int, width: int) -> pd.DataFrame:
    """The columns of a formatted summary that fit into `width`, its first `settings` always.

    Where these leave less than a third to the others, they are folded. Status is among the others
    where some run was not completed.
    """
    chosen = list(table)[:settings]
    room = max(width - sum(_width(table[name]) for name in chosen), width // 3)
    all_completed = table["status"].str.fullmatch(r"(\d+ )?completed").all()
    for name in ON_SCREEN if all_completed else ("status", *ON_SCREEN):
        if name in table and _width(table[name]) <= room:
            chosen.append(name)
            room -= _width(table[name])
    return table[[name for name in table if name in chosen]]


def by_market(table: pd.DataFrame, summary: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """A formatted summary in parts, by market where it is long; the market is the part's name."""
    markets = [key for key in map(str, summary) if key.startswith("data")]
    if len(summary) <= LONGEST or not markets:
        return {"": table}
    names = np.array([label(row, "") for row in summary[markets].to_dict("records")])
    rest = table.drop(columns=list(summary[markets].rename(columns=_headers(summary))))
    return {str(name): part for name, part in rest.groupby(names, sort=False)}


def screen_table(frame: pd.DataFrame, title: str = "") -> Table:
    """Any frame of texts for the screen."""
    table = Table(title=title or None, title_justify="left", show_edge=False)
    for column in frame.columns:
        table.add_column(str(column), justify="right", overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*map(str, row))
    return table


def runs_table(runs: pd.DataFrame, width: int) -> Table:
    """One row per run, for the end of a sweep, measured before training and after it."""
    shown = runs[["run", "status", "validation"]].map(_number).rename(columns=HEADERS)
    shown["gradient"] = runs["verdict_before"]
    for name in ("share", "importance", "reach"):
        both = runs[f"{name}_before"], runs[f"{name}_after"], runs["verdict_after"] == "diverged"
        form = MEASURED[name]
        shown[name] = [before_after(form, *row) for row in zip(*both, strict=True)]
    return screen_table(for_screen(shown, 1, width))


def before_after(form: str, before: float, after: float, diverged: bool = False) -> str:
    """A measurement before training and after it; a run that diverged has none after it."""
    texts = [format(value, form) if value == value else "-" for value in (before, after)]
    if diverged and texts[1] == "-" != texts[0]:
        return f"{texts[0]} -> diverged"
    return texts[0] if texts[0] == texts[1] else " -> ".join(texts)


def _headers(table: pd.DataFrame) -> dict[str, str]:
    """What a column is called in a formatted table; of a dotted key the last part, if unique."""
    names = {c: c.split(".")[-1] if "." in c else c.replace("_", " ") for c in map(str, table)}
    last = list(names.values())
    return {column: name for column, name in names.items() if last.count(name) == 1} | HEADERS


def _width(column: "pd.Series[str]") -> int:
    """Of a column on the screen, its padding and the line beside it."""
    return 3 + max(map(cell_len, [str(column.name), *map(str, column)]))


def _count(value: float) -> str:
    """All digits, as papers print them."""
    return "-" if math.isnan(value) else "never" if value == math.inf else f"{value:.0f}"


def _number(value: Any) -> str:
    """Four figures at most; - where there is no value."""
    if pd.isna(value):
        return "-"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:.4g}" if is_number else str(value)
