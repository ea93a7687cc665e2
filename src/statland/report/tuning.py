"""Each contestant at its own best setting: chosen on half of the seeds, judged on the others."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from statland.report.groups import label, settings_of, varying
from statland.settings import SettingError, choice

SEEDS = 6  # that a choice needs: three to choose on, and three to judge on


class Tuned(NamedTuple):
    """The runs that are left to judge, and what was chosen."""

    runs: pd.DataFrame
    facts: list[str]


def tune(runs: pd.DataFrame, key: str) -> Tuned:
    """Keep, of each contestant on each market, the runs with its best value of a setting.

    The best has the lowest mean loss over the first half of the sorted seeds, a run that diverged
    counting as infinite; the runs on the other seeds are kept. Raises SettingError for a setting
    that the runs do not vary, and for fewer than six seeds.
    """
    choice("--tune", key, settings_of(runs))
    seeds = sorted(runs["seed"].unique())
    if len(seeds) < SEEDS or runs[key].nunique() < 2:
        raise SettingError(
            f"--tune is {key}, with {runs[key].nunique()} values and {len(seeds)} seeds; allowed: "
            f"a setting of two values or more, with {SEEDS} seeds or more"
        )
    first, rest = seeds[: len(seeds) // 2], seeds[len(seeds) // 2 :]
    others = varying(runs.drop(columns=key)) or ["model"]
    loss = runs["validation"].where(runs["status"] == "completed").fillna(np.inf)
    loss = loss.where(runs["status"].isin(["completed", "diverged"]))  # nan where it has not ended
    kept, chosen, at_edge = [], [], []
    for values, own in runs.groupby(others, sort=False, dropna=False):
        on_first = own["seed"].isin(first)
        means = loss[own.index][on_first].groupby(own[key]).mean().dropna()
        if means.empty:
            continue
        name, best = label(dict(zip(others, values, strict=True)), ""), means.idxmin()
        kept.append(own[(own[key] == best) & own["seed"].isin(rest)])
        is_number = pd.api.types.is_numeric_dtype(runs[key])
        chosen.append(f"{name} {best:g}" if is_number else f"{name} {best}")
        if is_number and best in (means.index[0], means.index[-1]):
            at_edge.append(name)
    facts = [
        f"{key} was chosen on seeds {', '.join(map(str, first))} and is judged on seeds "
        f"{', '.join(map(str, rest))}: {'; '.join(chosen)}"
    ]
    if at_edge:
        facts.append(f"the best {key} lies at the edge of its grid for: {', '.join(at_edge)}")
    return Tuned(pd.concat(kept, ignore_index=True), facts)
