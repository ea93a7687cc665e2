"""The files of a comparison: tables, figures, and one self-contained HTML page of all."""

import base64
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pandas as pd

from statland.report.comparison import Comparison
from statland.report.tables import by_market, format_summary, format_tests

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = (
    "body{font:15px/1.5 sans-serif;margin:1.5em 2em}"
    "table{border-collapse:collapse;margin:1em 0;font-size:13px}th,td{white-space:nowrap;"
    "padding:.2em .7em;text-align:right;border-bottom:1px solid #ddd}"
    "img{max-width:100%;width:min(100%,1700px);display:block;margin:1.5em 0}"
    ".verdict{font-weight:bold}.wide{overflow-x:auto}"
)


def write(
    output: Path,
    comparison: Comparison,
    figures: Mapping[str, "Figure"],
    skipped: Sequence[str] = (),
) -> list[str]:
    """Write a comparison into the folder `output`; return the names of its files.

    `skipped` says which folders could not be read. Raises OSError where nothing can be written.
    """
    output.mkdir(parents=True, exist_ok=True)
    pictures = {f"compare_{name}.png": figure for name, figure in figures.items()}
    tests = tests_of(comparison)
    comparison.summary.to_csv(output / "compare.csv", index=False)
    tests.to_csv(output / "verdicts.csv", index=False)
    title = f"runs of {output.resolve().name}"
    parts = [f"<h1>{escape(title)}</h1>"]
    parts += _paragraphs((verdict.sentence for verdict in comparison.verdicts), "verdict")
    parts += [*_tables(comparison), *_paragraphs(comparison.facts)]
    for name, figure in pictures.items():
        figure.savefig(output / name)
        data = base64.b64encode((output / name).read_bytes()).decode()
        parts.append(f'<img alt="{name}" src="data:image/png;base64,{data}">')
    if len(tests):
        parts += ["<h2>The tests behind the verdicts</h2>", _table(format_tests(tests))]
    parts += ["<h2>Runs</h2>", _table(_runs(comparison.groups.runs, output), escaped=True)]
    if skipped:
        parts += ["<h2>Folders that could not be read</h2>", *_paragraphs(skipped)]
    head = f"<meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
    text = f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"
    (output / "compare.html").write_text(text, encoding="utf-8")
    return ["compare.csv", "verdicts.csv", "compare.html", *pictures]


def tests_of(comparison: Comparison) -> pd.DataFrame:
    """The table of verdicts: one row per test of a leader, with its lead, interval and p."""
    columns = ["market", "leader", "against", "lead", "low", "high", "p", "seeds", "shown"]
    tables = [verdict.tests for verdict in comparison.verdicts if len(verdict.tests)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _tables(comparison: Comparison) -> list[str]:
    parts = []
    table = format_summary(comparison.summary)
    for market, rows in by_market(table, comparison.summary).items():
        parts += [f"<h2>{escape(market)}</h2>"] if market else []
        parts.append(_table(rows))
    if not comparison.prediction.empty:
        parts.append("<h2>Does the reach before training predict which runs solve?</h2>")
        parts.append(_table(comparison.prediction))
    return parts


def _runs(runs: pd.DataFrame, beside: Path) -> pd.DataFrame:
    """One row per run, with links to its folder and its pictures; its cells are HTML."""
    rows = []
    columns = runs[["folder", "run", "status", "error"]].astype(str)
    for folder, name, status, error in columns.to_numpy().tolist():
        pictures = [Path(folder, f"{name}.png") for name in ("profile", "heatmap")]
        links = [_link(path, path.stem, beside) for path in pictures if path.exists()]
        link = _link(Path(folder), name, beside)
        rows.append([link, escape(status), " ".join(links), escape(error)])
    return pd.DataFrame(rows, columns=["run", "status", "pictures", "error"])


def _link(path: Path, text: str, beside: Path) -> str:
    """A link to a path as seen from a folder."""
    seen = Path(os.path.relpath(path.resolve(), beside.resolve())).as_posix()
    return f'<a href="{escape(quote(seen))}">{escape(text)}</a>'


def _table(frame: pd.DataFrame, escaped: bool = False) -> str:
    return f"<div class=wide>{frame.to_html(index=False, border=0, escape=not escaped)}</div>"


def _paragraphs(lines: Iterable[str], kind: str = "") -> list[str]:
    return [f'<p class="{kind}">{escape(line)}</p>' for line in lines]
