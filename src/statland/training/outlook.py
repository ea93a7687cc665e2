"""What became of earlier runs whose gradient, before training, was like this one's."""

import csv
from pathlib import Path

# Made by compare.py --outlook; data/README.md says of which runs.
RUNS = Path(__file__).parents[3] / "data/outlook.csv"

NEAR = 0.5  # decades
FEWEST = 10  # runs of which it is worth saying how many solved


def outlook(share: float | None) -> str | None:
    """Return how many runs of about this answer_share solved their market; None if few are known.

    `share` is in log10 against an even share, -inf for exactly 0. Runs within half a decade count.
    """
    if share is None or not RUNS.exists():
        return None
    with RUNS.open(encoding="utf-8") as file:
        runs = [(float(row["share"]), row["solved"] == "True") for row in csv.DictReader(file)]
    solved = [yes for other, yes in runs if other == share or abs(other - share) <= NEAR]
    if len(solved) < FEWEST:
        return None
    return f"of {len(solved)} such runs, {sum(solved) / len(solved):.0%} solved"
