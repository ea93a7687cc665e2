"""Runs side by side: what is the same, a table, verdicts, figures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from rich.console import Console

from statland.records.results import curve_of, profiles_of
from statland.report.groups import Groups, constants, group, left_out
from statland.report.sentences import MarketVerdict, verdicts
from statland.report.summary import (
    predictions_by_contestant,
    reach_predicts_solved,
    summarise,
    with_known_span,
)
from statland.report.tables import by_market, for_screen, format_summary, screen_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Comparison(NamedTuple):
    """All that is said of some runs, figures apart."""

    groups: Groups
    summary: pd.DataFrame  # summarise's: a row a setting
    verdicts: list[MarketVerdict]
    prediction: pd.DataFrame  # reach_predicts_solved's
    predictions: pd.DataFrame  # predictions_by_contestant's

    @property
    def facts(self) -> list[str]:
        """What holds for all rows: the settings that are the same, and which runs do not count.

        And what papers have printed, by the presets of these runs.
        """
        same = ", ".join(f"{key}={value}" for key, value in constants(self.groups.runs).items())
        said = [f"in all runs: {same}"]
        if self.groups.pooled:
            said.append(f"a row is over several values of: {', '.join(self.groups.pooled)}")
        if others := left_out(self.groups.runs):
            said.append(f"left out: {others} (they count in status only)")
        published = {k: v for printed in self.groups.runs["published"] for k, v in printed.items()}
        return said + [f"published, not measured here: {k}: {v}" for k, v in published.items()]


def compare(runs: pd.DataFrame, by: Sequence[str] = (), where: Sequence[str] = ()) -> Comparison:
    """Compare the runs that meet the conditions `where`, KEY=VALUE, in rows `by` some settings.

    Raises SettingError for a key or a value that no run has.
    """
    groups = group(runs, by, where)
    return Comparison(
        groups,
        summarise(groups),
        verdicts(groups.runs, groups.pooled),
        reach_predicts_solved(groups.runs),
        predictions_by_contestant(groups.runs),
    )


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
    if not comparison.prediction.empty:
        counts = comparison.prediction.reset_index(names="")
        console.print(screen_table(counts, "does the reach before training predict solved runs?"))
        if len(comparison.predictions) > 1:
            console.print(screen_table(comparison.predictions))


# Figures: all calls of report/figures are below.


def figures(groups: Groups) -> dict[str, "Figure"]:
    """Every figure that the runs allow, by name."""
    from statland.report import figures as draw  # importing matplotlib takes a second

    panels: dict[str, dict[str, list[Any]]] = {}
    flows: dict[str, dict[str, list[Any]]] = {}
    for (market, contestant), runs in groups.runs.groupby(["market", "contestant"], sort=False):
        market, contestant = str(market), str(contestant)
        folders = runs.loc[runs["counts"], "folder"]
        panel, flow = panels.setdefault(market, {}), flows.setdefault(market, {})
        panel[contestant] = [curve for curve in map(curve_of, folders) if len(curve)]
        flow[contestant] = [both for both in map(profiles_of, folders) if both]
    everyone = groups.runs
    models = dict(zip(everyone["contestant"].astype(str), everyone["model"], strict=True))
    # Weights that theory predicts and that are never trained have no answer to look for.
    untrained = everyone[(everyone["steps"] == 0) & everyone["theory_before"].notna()]
    theory = dict(zip(untrained["contestant"].astype(str), untrained["theory_before"], strict=True))
    baselines, spans = (
        {
            market: groups.runs.loc[groups.runs["market"] == market, column].mean()
            for market in panels
        }
        for column in ("best_baseline", "span")
    )
    drawn = {
        "validation": draw.curves_figure(panels, baselines, models),
        "profiles": draw.profiles_figure(
            flows, {} if len(untrained) == len(everyone) else spans, models, theory
        ),
    }
    placed = everyone[["log10_dp_dw_before", "reach_before"]].notna().all(axis=1)
    counted = everyone[everyone["counts"] & placed]
    if counted["contestant"].nunique() > 1:
        by_market = {str(market): runs for market, runs in counted.groupby("market", sort=False)}
        is_linear = ((counted["steps"] == 0) & (counted["theory_before"] < 0)).all()
        drawn["dependence"] = draw.dependence_figure(by_market, models, bool(is_linear))
    known = with_known_span(groups.runs)
    if known["span"].nunique() > 1:
        drawn["forecast"] = draw.forecast_figure(known, models)
    numbers = [key for key in groups.rows if pd.api.types.is_numeric_dtype(groups.runs[key])]
    if len(numbers) == len(groups.rows) == 2:
        drawn["grid"] = draw.grid_figure(
            numbers[1], numbers[0], *grid_tables(groups.runs, *numbers)
        )
    return drawn


def grid_tables(runs: pd.DataFrame, y: str, x: str) -> list[pd.DataFrame]:
    """Gradient, loss and Lyapunov exponent by two settings, means over the runs that count.

    All have the same rows and columns, those too in which every run diverged.
    """
    ups, acrosses = (sorted(runs[key].dropna().unique()) for key in (y, x))
    counted = runs[runs["counts"]]
    columns = ["first_to_last_before", "validation", "lyapunov_before"]
    return [
        counted.pivot_table(index=y, columns=x, values=column).reindex(ups, columns=acrosses)
        for column in columns
    ]
