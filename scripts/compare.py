"""Compare runs: a table, a verdict with error bars, figures, and one HTML page of it all."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from statland.report import comparison, load
from statland.report.page import page


def main() -> None:
    """Parse the command line, print the table, write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="sweep or run folders")
    parser.add_argument("--output", type=Path, help="where to write; by default the first folder")
    arguments = parser.parse_args()
    output = arguments.output or arguments.runs[0]
    # Into a file or a pipe the table goes whole.
    console = Console(markup=False, width=None if sys.stdout.isatty() else 180)
    if absent := [str(path) for path in arguments.runs if not path.is_dir()]:
        parser.error(f"{', '.join(absent)}: no such folder; allowed: sweep or run folders")
    runs = load(*arguments.runs)
    for line in runs.attrs["skipped"]:
        console.print(f"skipped {line}", soft_wrap=True)
    if runs.empty:
        sys.exit(f"error: no run in {', '.join(map(str, arguments.runs))}")
    same = ", ".join(f"{key}={value}" for key, value in comparison.constants(runs).items())
    console.print(f"in all runs: {same}", highlight=False, soft_wrap=True)
    folded = comparison.fold(runs)
    console.print(comparison.table_of(comparison.told(folded)))
    for line in comparison.verdicts(runs):
        console.print(line, soft_wrap=True, highlight=False)
    hits = comparison.forecast(runs)
    if not hits.empty:
        console.print(comparison.table_of(hits.reset_index(names=""), "forecast before training"))
    pictures = comparison.figures(runs)
    text = page(f"runs of {output.resolve().name}", runs, pictures)
    try:
        output.mkdir(parents=True, exist_ok=True)
        folded.to_csv(output / "compare.csv", index=False)
        for name, figure in pictures.items():
            figure.savefig(output / f"compare_{name}.png")
        (output / "compare.html").write_text(text, encoding="utf-8")
    except OSError as error:
        sys.exit(f"error: {error}; allowed: another --output")
    console.print(f"written: {output}/compare.csv, compare.html, " + ", ".join(
        f"compare_{name}.png" for name in pictures), soft_wrap=True)  # fmt: skip


if __name__ == "__main__":
    main()
