"""The StatLand bench: how far back does a sequence model's gradient reach?"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from statland.training.load_run import load_run

__all__ = ["load_run"]


def __getattr__(name: str) -> Any:
    """Import load_run when it is first asked for: importing torch takes seconds."""
    if name == "load_run":
        from statland.training.load_run import load_run

        return load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
