"""The files of a comparison: tables, figures, and one self-contained HTML page of all."""

import base64
import html
import io
import os
from collections.abc import Mapping, Sequence
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
    pictures: Mapping[str, "Figure"],
    skipped: Sequence[str] = (),
) -> list[str]:
    """Write a comparison into the folder `output`; the names of its files.

    `skipped` says which folders could not be read. Raises OSError where nothing can be written.
    """
    output.mkdir(parents=True, exist_ok=True)
    comparison.summary.to_csv(output / "compare.csv", index=False)
    tests_of(comparison).to_csv(output / "verdicts.csv", index=False)
    for name, figure in pictures.items():
        figure.savefig(output / f"compare_{name}.png")
    text = page(f"runs of {output.resolve().name}", comparison, pictures, output, skipped)
    (output / "compare.html").write_text(text, encoding="utf-8")
    names = [f"compare_{name}.png" for name in pictures]
    return ["compare.csv", "verdicts.csv", "compare.html", *names]


def tests_of(comparison: Comparison) -> pd.DataFrame:
    """The table of verdicts: a row for each test of a leader, with its lead, interval and p."""
    columns = ["market", "leader", "against", "lead", "low", "high", "p", "seeds", "shown"]
    tables = [verdict.tests for verdict in comparison.verdicts if len(verdict.tests)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def page(
    title: str,
    comparison: Comparison,
    pictures: Mapping[str, "Figure"],
    beside: Path,
    skipped: Sequence[str] = (),
) -> str:
    """One self-contained HTML page: the verdicts, the table, the figures, the tests, every run.

    It links to the runs' folders as they are seen from the folder `beside`, where it will lie.
    """
    sentences = [verdict.sentence for verdict in comparison.verdicts]
    parts = [f"<h1>{html.escape(title)}</h1>", *_paragraphs(sentences, "verdict")]
    parts += [*_tables(comparison), *_paragraphs(comparison.facts)]
    for name, figure in pictures.items():
        file = io.BytesIO()
        figure.savefig(file, format="png")
        data = base64.b64encode(file.getvalue()).decode()
        parts.append(f'<img alt="{name}" src="data:image/png;base64,{data}">')
    tests = tests_of(comparison)
    if len(tests):
        parts += ["<h2>The tests behind the verdicts</h2>", _table(format_tests(tests))]
    parts += ["<h2>Runs</h2>", _table(_runs(comparison.groups.runs, beside), escape=False)]
    if skipped:
        parts += ["<h2>Folders that could not be read</h2>", *_paragraphs(skipped)]
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{html.escape(title)}"
        f"</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _tables(comparison: Comparison) -> list[str]:
    parts = []
    table = format_summary(comparison.summary)
    for market, rows in by_market(table, comparison.summary).items():
        parts += [f"<h2>{html.escape(market)}</h2>"] if market else []
        parts.append(_table(rows))
    if not comparison.prediction.empty:
        parts.append("<h2>Does the reach before training predict which runs solve?</h2>")
        parts.append(comparison.prediction.to_html(border=0))
        parts.append(_table(comparison.predictions))
    return parts


def _runs(runs: pd.DataFrame, beside: Path) -> pd.DataFrame:
    """A row a run, with links to its folder and its pictures; its cells are HTML."""
    rows = []
    for run in runs.itertuples():
        folder = Path(str(run.folder))
        links = {
            name: _link(folder / f"{name}.png", name, beside)
            for name in ("profile", "heatmap")
            if (folder / f"{name}.png").exists()
        }
        rows.append(
            {
                "run": _link(folder, str(run.run), beside),
                "status": html.escape(str(run.status)),
                "pictures": " ".join(links.values()),
                "error": html.escape(str(run.error)),
            }
        )
    return pd.DataFrame(rows)


def _link(path: Path, text: str, beside: Path) -> str:
    """A link to a path as seen from a folder."""
    seen = os.path.relpath(path.resolve(), beside.resolve())
    return f'<a href="{html.escape(quote(Path(seen).as_posix()))}">{html.escape(text)}</a>'


def _table(frame: pd.DataFrame, escape: bool = True) -> str:
    return f"<div class=wide>{frame.to_html(index=False, border=0, escape=escape)}</div>"


def _paragraphs(lines: Sequence[str], kind: str = "") -> list[str]:
    return [f'<p class="{kind}">{html.escape(line)}</p>' for line in lines]
