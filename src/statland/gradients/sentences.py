"""One of three words on a gradient, and one line of the numbers behind it.

By first_to_last, log10 of the flow on the first day over that on the last:

    vanishes   at most -2: less than 1% of it is left on the first day
    explodes   at least +2: more than 100 times as large on the first day
    holds      in between

The word is about the history as it was measured; whether the gradient reaches the answer, which
may lie nearer than the first day, is said beside it.
"""

import math
from collections.abc import Mapping
from typing import Any

from statland.gradients.share import REACH

DECADES = -math.log10(REACH)


def word(first_to_last: float) -> str | None:
    """vanishes, holds or explodes; None where the flow is not known."""
    if math.isnan(first_to_last):
        return None
    # A billionth of a decade of rounding does not change the word.
    if first_to_last <= -DECADES + 1e-9:
        return "vanishes"
    return "explodes" if first_to_last >= DECADES - 1e-9 else "holds"


def verdict(gradient: Mapping[str, Any], span: int | None, is_spread: bool = False) -> str:
    """One line: the word, how far the gradient reaches, how far back the answer lies.

    `gradient` is what summary.json has of one moment; span is the market's, in days: the farthest
    of several where the answer is spread over them.
    """
    reach, lost = gradient["reach_days"], gradient["lost_companies"]
    if reach is None:
        if lost:
            return f"not known: the state of all {lost} companies is nan"
        return "vanishes: it is exactly 0 on every day"
    longest = gradient["longest_lag"]
    if longest == 0:
        return "not known: the histories are one day long, so there is no way back to measure"
    answer = _answer(reach, span, is_spread)
    return f"{gradient['verdict']}: {_size(gradient)}; {answer}{_slope(gradient)}"


def _size(gradient: Mapping[str, Any]) -> str:
    """How large the gradient is, as the word needs it."""
    longest, change = gradient["longest_lag"], gradient["first_to_last"]
    if gradient["verdict"] == "explodes":
        return f"10^{change:.3g} times as large on day 1 as on day {longest + 1}"
    if not gradient["reach_is_bounded"]:
        return f"at least 1% of it reaches all {_days(longest)} back"
    return f"1% of it reaches {_days(gradient['reach_days'])} back"


def _answer(reach: int, span: int | None, is_spread: bool) -> str:
    if span is None:
        return "where the answer lies is not known"
    within = "within reach" if reach >= span else "out of reach"
    if is_spread:
        return f"the answer is spread over up to {_days(span)} back, the farthest {within}"
    return f"the answer lies {_days(span)} back, {within}"


def _slope(gradient: Mapping[str, Any]) -> str:
    decay, theory = gradient["decay_per_day"], gradient.get("theory_decay_per_day")
    if math.isnan(decay):  # fewer than two days with a flow have no slope
        return ""
    by_theory = "" if theory is None else f", by theory {theory:+.4g}"
    return f" ({decay:+.4g} decades a day{by_theory})"


def _days(count: int) -> str:
    return f"{count} day" if count == 1 else f"{count} days"
