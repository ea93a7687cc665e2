"""What SIGINT and SIGTERM do: ask a run to stop, instead of stopping it in the middle of a step."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Interrupted(SystemExit):
    """A signal asked the run to stop, and it has; the exit status is 128 and the signal's."""


@contextmanager
def signals_to(handler: Callable[[int, object], None]) -> Iterator[None]:
    """Let `handler` have SIGINT and SIGTERM; only the main thread of a process can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, before in kept.items():
            signal.signal(number, before)
