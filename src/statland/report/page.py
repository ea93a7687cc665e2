"""A comparison as one self-contained HTML page."""

import base64
import html
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from statland.report.comparison import constants, fold, forecast, told, verdicts

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
