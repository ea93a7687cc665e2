"""Pure measurements of gradients: tensors in, named numbers out; nothing changes by them."""

from typing import TYPE_CHECKING, Any

from statland.gradients.flow import Flow, gradient_flow
from statland.gradients.importance import importance
from statland.gradients.share import (
    Profile,
    decay_per_day,
    first_to_last,
    profile,
    reach_days,
    share,
    word,
)
from statland.gradients.weights import WeightFlow, weight_flow
from statland.models.bare import Recurrence

if TYPE_CHECKING:
    from statland.gradients.figures import profile_figure, strips_figure

__all__ = [
    "Flow",
    "Profile",
    "Recurrence",
    "WeightFlow",
    "decay_per_day",
    "first_to_last",
    "gradient_flow",
    "importance",
    "profile",
    "profile_figure",
    "reach_days",
    "share",
    "strips_figure",
    "weight_flow",
    "word",
]


def __getattr__(name: str) -> Any:
    """Import what draws when it is first asked for: importing matplotlib takes a second."""
    if name in ("profile_figure", "strips_figure"):
        from statland.gradients import figures

        return getattr(figures, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
