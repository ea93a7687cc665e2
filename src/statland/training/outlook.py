"""What became of earlier runs whose gradient, before training, was like this one's."""

import csv
import math
from pathlib import Path

# Made by compare.py --outlook; data/README.md says of which runs.
RUNS = Path(__file__).with_name("outlook.csv")

# Shares are about the same within half a decade, small ones within a quarter of their decades.
NEAR, OF_DECADES = 0.5, 0.25
FEWEST = 10  # runs of which it is worth saying how many solved


def outlook(share: float | None) -> str | None:
    """Return how many runs of about this answer_share solved their market; None if few are known.

    `share` is in log10 against an even share, -inf for exactly 0.
    """
    if share is None or not RUNS.exists():
        return None
    with RUNS.open(encoding="utf-8") as file:
        runs = [(float(row["share"]), row["solved"] == "True") for row in csv.DictReader(file)]
    near = max(NEAR, OF_DECADES * abs(share)) if math.isfinite(share) else 0
    solved = [yes for other, yes in runs if other == share or abs(other - share) <= near]
    if len(solved) < FEWEST:
        return None
    return f"of {len(solved)} such runs, {sum(solved) / len(solved):.0%} solved"
