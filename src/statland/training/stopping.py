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


class Interrupted(SystemExit):
    """A signal has stopped the run; the exit status is 128 plus the signal's number."""


@contextmanager
def signals_to(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let `handler` handle SIGINT and SIGTERM, in the main thread of a process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, before in kept.items():
            signal.signal(number, before)


def raise_interrupted(number: int, _: FrameType | None) -> None:
    """A handler: raise Interrupted."""
    raise Interrupted(128 + number)


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
        deadline = time.monotonic() + 60  # seconds, for a step and a checkpoint
        for worker in workers:
            worker.join(max(0, deadline - time.monotonic()))
        raise Interrupted(128 + number)

    for number in SIGNALS:
        signal.signal(number, stop)


def leave_worker(interrupted: Interrupted) -> None:
    """End this process if it is a worker, which would begin the next job; else do nothing."""
    if multiprocessing.parent_process() is not None:
        os._exit(int(interrupted.code or 0))
