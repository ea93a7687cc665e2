"""The screen may go away, be closed from the start, or know ASCII alone: the work goes on."""

import io
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # --help should not wait for it
    from rich.console import Console


class _Steady(io.FileIO):
    """A stream that nothing is said to where it cannot be written to: a terminal that closed."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def steady_streams() -> None:
    """Let no print end this process: not into `| head -1`, not into `>&-`, not of a ± in ASCII."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
            continue
        buffer = getattr(stream, "buffer", None)
        raw = getattr(buffer, "raw", buffer)
        if type(raw) is not io.FileIO:  # a notebook's, or steady already
            continue
        stream.flush()
        steady = io.TextIOWrapper(
            io.BufferedWriter(_Steady(raw.fileno(), "w", closefd=False)),
            encoding=stream.encoding,
            errors="backslashreplace" if name == "stderr" else "replace",
            line_buffering=stream.line_buffering or stream.write_through,
        )
        setattr(sys, name, steady)


def table_console() -> "Console":
    """A console for tables: into a file or a pipe in a width that a page and a screen have."""
    from rich.console import Console

    return Console(markup=False, width=None if sys.stdout.isatty() else 100)
