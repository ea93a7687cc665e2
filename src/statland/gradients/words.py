"""What a run's gradient does, in one sentence."""

import math
from collections.abc import Mapping
from typing import Any

# A model uses the answer if at least so much of its prediction depends on it.
USED = 0.5


def verdict(gradient: Mapping[str, Any], span: int | None, trained: bool = False) -> str:
    """Return the word, how many days hold the gradient, and what of it the answer gets.

    `gradient` is what summary.json has of one moment; `span` is how many days back the answer's
    farthest day lies. After training it also says whether the model uses the answer.
    """
    if gradient["longest_lag"] == 0:
        return "is not known: the histories are one day long"
    if gradient["verdict"] is None:
        return f"is not known: the prediction is nan for all {gradient['lost_companies']} companies"
    if gradient["reach_days"] is None:
        return "vanishes: it is exactly 0 on every day"
    last = "day" if gradient["reach_days"] == 0 else f"{gradient['reach_days'] + 1} days"
    size = f"99% of it comes from the last {last}"
    if gradient["verdict"] == "explodes":
        change, days = gradient["first_to_last"], gradient["longest_lag"] + 1
        size = f"10^{change:.3g} times as large on day 1 as on day {days}"
        size = size if math.isfinite(change) else "none of it comes from the last day"
    said = [f"{gradient['verdict']}: {size}{_slope(gradient)}"]
    if span is not None:
        back = "1 day" if span == 1 else f"{span} days"
        said.append(f"the answer, {back} back, gets {share_in_words(gradient)}")
    importance = gradient["answer_importance"]
    if trained and importance is not None:
        used = importance >= USED
        depends = " of what it predicts depends on it" if used else ""
        uses = "uses" if used else "does not use"
        said.append(f"the model {uses} the answer: {importance:.2f}{depends}")
    return "; ".join(said)


def share_in_words(gradient: Mapping[str, Any]) -> str:
    """Return the answer's share of the gradient, against an even share."""
    share = gradient["answer_share"]
    if gradient["answer_zero"]:
        return "nothing of it"
    if share is None:
        return "an unknown share of it"
    size = f"10^{share:.0f}" if abs(share) >= 2 else f"{10**share:.2g}"
    return f"{size} {'of' if share < 0 else 'times'} an even share"


def _slope(gradient: Mapping[str, Any]) -> str:
    """The decay, if theory gives it too."""
    decay, theory = gradient["decay_per_day"], gradient.get("theory_decay_per_day")
    if theory is None or math.isnan(decay):
        return ""
    return f" ({decay:+.4g} decades a day, by theory {theory:+.4g})"
