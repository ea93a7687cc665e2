"""Output streams that end no run: the terminal may close, or encode ASCII alone."""

import io
import os
import sys
from typing import Any


class _Stream(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:  # nobody reads it any more
            return memoryview(data).nbytes


def ignore_broken_pipes() -> None:
    """Let no print raise an error: not into `| head -1`, not into `>&-`, not of a ± in ASCII."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")  # noqa: SIM115  # None: closed
        buffer = getattr(stream, "buffer", None)
        if type(getattr(buffer, "raw", buffer)) is io.FileIO:  # else a notebook's, or ours already
            stream.flush()
            raw = io.BufferedWriter(_Stream(os.dup(stream.fileno()), "w"))
            by_line = stream.line_buffering or stream.write_through
            stream = io.TextIOWrapper(
                raw, stream.encoding, "backslashreplace", line_buffering=by_line
            )
        setattr(sys, name, stream)
