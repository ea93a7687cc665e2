"""The files of a comparison: tables, figures, and one self-contained HTML page of all."""

import base64
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pandas as pd

from statland.records.files import replacing
from statland.report.comparison import Comparison
from statland.report.tables import (
    by_market,
    csv_text,
    forecast_tables,
    format_summary,
    format_tests,
)
from statland.settings import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = (
    "body{font:15px/1.5 sans-serif;margin:1.5em auto;max-width:1240px;padding:0 1em}"
    "table{border-collapse:collapse;margin:1em 0;font-size:13px}th,td{white-space:nowrap;"
    "padding:.2em .7em;text-align:right;border-bottom:1px solid #ddd}th{cursor:pointer}"
    "figure{margin:2em 0}img{max-width:100%;display:block}figcaption{color:#444;margin-top:.4em}"
    ".verdict{font-weight:bold}.wide{overflow-x:auto}summary{cursor:pointer;font-weight:bold}"
)

# A click on a heading sorts its table: numbers by size, as a cell begins with one, else as text.
SORT = """<script>
for (const th of document.querySelectorAll("th")) th.onclick = () => {
  const table = th.closest("table"), place = th.cellIndex, up = (th.dataset.up ^= 1);
  const key = row => row.cells[place].textContent, number = row => parseFloat(key(row));
  const rows = [...table.tBodies[0].rows].sort((a, b) =>
    (number(a) - number(b) || key(a).localeCompare(key(b))) * (up ? 1 : -1));
  table.tBodies[0].append(...rows);
};
</script>"""

# The columns that answer the question, in its order; the others are folded away.
FIRST = (
    *("solved", "steps", "last loss", "share", "importance", "reach", "gradient"),
    *("accuracy", "longer loss", "longer accuracy", "skill", "status"),
)

# What to look for in each figure.
CAPTIONS = {
    "strips": "Where does the gradient go? Dark days get their even share. "
    "A model can learn from the answer while the answer's days are dark before training.",
    "profiles": "The gradient flow by days back, dashed before training and solid after it. "
    "A line that falls to the right vanishes, one that rises explodes.",
    "validation": "The loss on validation: the mean over seeds, "
    "and a band from the lowest to the highest.",
    "forecast": "To the left of the dotted line the answer gets less than 1% of an even share. "
    "Few runs should solve there, and most to its right.",
    "dependence": "The farther the gradient reaches, "
    "the more the prediction depends on the recurrent weights.",
    "grid": "Red: the first day gets more gradient than the last. Blue: less. "
    "A low loss is learnt where neither is dark.",
}


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
    tests = tests_of(comparison)
    files: dict[str, str | bytes]
    files = {"compare.csv": csv_text(comparison.summary), "verdicts.csv": csv_text(tests)}
    title = printable(f"runs of {output.resolve().name}")
    table = format_summary(comparison.summary)
    parts = [f"<h1>{escape(title)}</h1>"]
    parts += _paragraphs((verdict.sentence for verdict in comparison.verdicts), "verdict")
    parts += [*_tables(comparison, table), *_paragraphs(comparison.facts)]
    for name, figure in figures.items():
        figure.savefig(png := io.BytesIO())
        files[f"compare_{name}.png"] = png.getvalue()
        data = base64.b64encode(png.getvalue()).decode()
        image = f'<img alt="{name}" src="data:image/png;base64,{data}">'
        parts.append(f"<figure>{image}<figcaption>{escape(CAPTIONS[name])}</figcaption></figure>")
    parts += _folded("All columns", [_table(table)])
    if len(tests):
        parts += _folded("The tests behind the verdicts", [_table(format_tests(tests))])
    parts += _folded("Runs", [_table(_runs(comparison.groups.runs, output), escaped=True)])
    if skipped:
        parts += _folded("Folders that could not be read", _paragraphs(skipped))
    parts.append(SORT)
    head = f"<meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
    text = f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"
    files["compare.html"] = text
    for name, content in files.items():
        with replacing(output / name) as file:
            file.write(content.encode() if isinstance(content, str) else content)
    return list(files)


def tests_of(comparison: Comparison) -> pd.DataFrame:
    """The table of verdicts: one row per test of a leader, with its lead, interval and p."""
    columns = ["market", "leader", "against", "lead", "low", "high", "p", "seeds", "shown"]
    tables = [verdict.tests for verdict in comparison.verdicts if len(verdict.tests)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _tables(comparison: Comparison, table: pd.DataFrame) -> list[str]:
    """The columns of a formatted summary that answer the question, and the forecast."""
    parts = []
    settings = list(table)[: len(comparison.groups.rows)]
    table = table[[*settings, *(name for name in FIRST if name in table)]]
    for market, rows in by_market(table, comparison.summary).items():
        parts += [f"<h2>{escape(market)}</h2>"] if market else []
        parts.append(_table(rows))
    if comparison.forecast is not None:
        told = comparison.forecast.sentence, comparison.forecast.reasons
        parts += _paragraphs(filter(None, told))
        tables = map(_table, forecast_tables(comparison.forecast))
        parts += _folded("The forecast in numbers", tables)
    return parts


def _folded(title: str, parts: Iterable[str]) -> list[str]:
    """A part of the page that opens on a click."""
    return [f"<details><summary>{escape(title)}</summary>", *parts, "</details>"]


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
    return f'<a href="{escape(quote(os.fsencode(seen)))}">{escape(text)}</a>'


def _table(frame: pd.DataFrame, escaped: bool = False) -> str:
    return f"<div class=wide>{frame.to_html(index=False, border=0, escape=not escaped)}</div>"


def _paragraphs(lines: Iterable[str], kind: str = "") -> list[str]:
    return [f'<p class="{kind}">{escape(line)}</p>' for line in lines]
