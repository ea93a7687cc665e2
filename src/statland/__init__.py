"""The StatLand bench: how far back does a sequence model's gradient reach?"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from statland.monitor import Monitor
    from statland.training.load_run import load_run

__all__ = ["Monitor", "load_run"]


def __getattr__(name: str) -> Any:
    """Import what is first asked for: importing torch takes seconds."""
    if name == "Monitor":
        from statland.monitor import Monitor

        return Monitor
    if name == "load_run":
        from statland.training.load_run import load_run

        return load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
