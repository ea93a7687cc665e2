"""What SIGINT and SIGTERM do: ask a run to stop, instead of stopping it in the middle of a step."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

# So many seconds the jobs of a sweep have to end the step in hand and save.
GRACE = 60


class Interrupted(SystemExit):
    """A signal asked the run to stop, and it has; the exit status is 128 and the signal's."""


@contextmanager
def signals_to(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let `handler` have SIGINT and SIGTERM; only the main thread of a process can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, before in kept.items():
            signal.signal(number, before)


def ignore_signals() -> None:
    """Let nothing disturb a process that is about to end."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def raise_interrupted(number: int, _: FrameType | None) -> None:
    """A handler: leave the block in hand by an exception."""
    raise Interrupted(128 + number)


def end_on_signal(tidy: Callable[[], None]) -> None:
    """Let SIGINT and SIGTERM end the process at once, but for `tidy`, as long as no run has begun.

    An exception would not do: an import in progress may swallow it, and leave half a module.
    """

    def stop(number: int, _: FrameType | None) -> None:
        tidy()
        os._exit(128 + number)

    for number in SIGNALS:
        signal.signal(number, stop)


def stop_workers_on_signal() -> None:
    """Let SIGINT and SIGTERM end a sweep once the jobs in its worker processes have saved.

    A second signal ends it at once.
    """

    def stop(number: int, _: FrameType | None) -> None:
        for one in SIGNALS:
            signal.signal(one, signal.SIG_DFL)
        workers = multiprocessing.active_children()
        for worker in workers:
            worker.terminate()
        deadline = time.monotonic() + GRACE
        for worker in workers:
            worker.join(max(0, deadline - time.monotonic()))
        raise Interrupted(128 + number)

    for number in SIGNALS:
        signal.signal(number, stop)


def leave_worker(interrupted: Interrupted) -> None:
    """In a worker process, end it: it would begin the next job. Elsewhere do nothing."""
    if multiprocessing.parent_process() is not None:
        os._exit(int(interrupted.code or 0))
