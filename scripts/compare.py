"""Compare runs: a table, verdicts by paired tests, figures, and one HTML page of it all."""

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console

from statland.command.streams import ignore_broken_pipes
from statland.report import load
from statland.report.comparison import compare, figures, show
from statland.report.forecast import write_outlook
from statland.report.page import write
from statland.settings import SettingError, printable


def main() -> None:
    """Parse the command line, print the comparison, write its files."""
    ignore_broken_pipes()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="sweep or run folders")
    parser.add_argument("--by", metavar="KEY[,KEY]", help="the settings that make the rows")
    parser.add_argument("--where", metavar="KEY=VALUE", action="append", help="only such runs")
    parser.add_argument("--tune", metavar="KEY", help="each at its best value, on other seeds")
    parser.add_argument("--outlook", type=Path, help="write what the runs foretell, as CSV")
    parser.add_argument("--output", type=Path, help="where to write; by default the first folder")
    arguments = parser.parse_args()
    output = arguments.output or arguments.runs[0]
    console = Console(markup=False, width=None if sys.stdout.isatty() else 100)
    if absent := [printable(str(path)) for path in arguments.runs if not os.path.isdir(path)]:
        parser.error(f"{', '.join(absent)}: no such folder; allowed: sweep or run folders")
    runs = load(*arguments.runs)
    skipped = runs.attrs["skipped"]
    for line in skipped:
        console.print(f"skipped {line}", soft_wrap=True)
    if runs.empty:
        sys.exit(printable(f"error: no run in {', '.join(map(str, arguments.runs))}"))
    try:
        by = arguments.by.split(",") if arguments.by else []
        comparison = compare(runs, by, arguments.where or [], arguments.tune)
    except SettingError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    show(comparison, console)
    try:
        if arguments.outlook is not None:
            write_outlook(arguments.outlook, comparison.groups.runs)
        written = write(output, comparison, figures(comparison.groups), skipped)
    except OSError as error:
        sys.exit(f"error: {error}; allowed: another --output")
    console.print(f"written: {printable(str(output))}/{', '.join(written)}", soft_wrap=True)


if __name__ == "__main__":
    main()
