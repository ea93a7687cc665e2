"""Runs side by side: what is the same, a table, verdicts, figures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
from rich.console import Console

from statland.records.results import curve_of, profiles_of
from statland.report.forecast import Forecast, forecast, with_known_answer
from statland.report.groups import Groups, constants, group, left_out, meeting
from statland.report.sentences import MarketVerdict, verdicts
from statland.report.statistics import summarise
from statland.report.tables import (
    by_market,
    for_screen,
    forecast_tables,
    format_summary,
    screen_table,
)
from statland.report.tuning import tune

if TYPE_CHECKING:
    from statland.drawing import Figure


MOST_CURVES = 6  # profiles on top of one another in a panel; strips show any number


class Comparison(NamedTuple):
    """What a comparison of runs says, figures apart."""

    groups: Groups
    summary: pd.DataFrame  # summarise's: one row per setting
    verdicts: list[MarketVerdict]
    forecast: Forecast | None
    tuned: list[str]  # how each contestant's best setting was chosen

    @property
    def facts(self) -> list[str]:
        """The settings that all runs share, which runs do not count, what papers printed."""
        runs = self.groups.runs
        same = ", ".join(f"{key}={value}" for key, value in constants(runs).items())
        facts = [f"in all runs: {same}", *self.tuned]
        if self.groups.pooled:
            facts.append(f"a row is over several values of: {', '.join(self.groups.pooled)}")
        if others := left_out(runs):
            facts.append(f"left out: {others} (they count in status only)")
        published = {k: v for printed in runs["published"] for k, v in printed.items()}
        return facts + [f"published, not measured here: {k}: {v}" for k, v in published.items()]


def compare(
    runs: pd.DataFrame,
    by: Sequence[str] = (),
    where: Sequence[str] = (),
    tuned: str | None = None,
) -> Comparison:
    """Compare the runs that meet the conditions `where`, KEY=VALUE, in rows `by` some settings.

    With `tuned` each contestant is compared at its own best value of that setting. Raises
    SettingError for a key or a value that no run has.
    """
    runs, chosen = meeting(runs, where), list[str]()
    if tuned is not None:
        runs, chosen = tune(runs, tuned)
    groups = group(runs, by)
    of_market = verdicts(groups.runs, groups.pooled)
    return Comparison(groups, summarise(groups), of_market, forecast(groups.runs), chosen)


def show(comparison: Comparison, console: Console) -> None:
    """Print facts, table and verdicts, the table no wider than the console."""
    for line in comparison.facts:
        console.print(line, highlight=False, soft_wrap=True)
    table = format_summary(comparison.summary)
    shown = for_screen(table, len(comparison.groups.rows), console.width)
    for market, part in by_market(shown, comparison.summary).items():
        console.print(screen_table(part, market))
    if missing := [str(name) for name in table if name not in shown]:
        console.print(f"in compare.csv and compare.html also: {', '.join(missing)}", soft_wrap=True)
    for verdict in comparison.verdicts:
        console.print(verdict.sentence, soft_wrap=True, highlight=False)
    if comparison.forecast is not None:
        for line in filter(None, (comparison.forecast.sentence, comparison.forecast.reasons)):
            console.print(line, soft_wrap=True, highlight=False)
        for frame in forecast_tables(comparison.forecast):
            console.print(screen_table(frame))


def figures(groups: Groups) -> dict[str, "Figure"]:
    """Every figure that the runs allow, by name."""
    from statland.drawing import own_settings  # importing matplotlib takes a second
    from statland.report import figures as draw
    from statland.report.strips import strips_figure

    runs = groups.runs[groups.runs["counts"]]
    if runs.empty:
        return {}
    diverged = zip(runs["folder"], runs["status"] == "diverged", strict=True)
    profiles = {folder: profiles_of(folder, is_lost) for folder, is_lost in diverged}
    with own_settings():
        drawn: dict[str, Figure] = {"strips": strips_figure(runs, profiles)}
        if runs.groupby("market")["contestant"].nunique().max() <= MOST_CURVES:
            drawn["profiles"] = draw.profiles_figure(runs, profiles)
        drawn["validation"] = draw.curves_figure(runs, {f: curve_of(f) for f in runs["folder"]})
        measured = runs[runs[["log10_dp_dw_before", "reach_before"]].notna().all(axis=1)]
        if measured["contestant"].nunique() > 1:
            drawn["dependence"] = draw.dependence_figure(measured)
        known = with_known_answer(runs)
        if known["contestant"].nunique() > 1:
            drawn["forecast"] = draw.forecast_figure(known)
        numbers = [key for key in groups.rows if pd.api.types.is_numeric_dtype(runs[key])]
        if len(numbers) == len(groups.rows) == 2:
            drawn["grid"] = draw.grid_figure(runs, *numbers)
    return drawn
