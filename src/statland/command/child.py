"""A job of a sweep in a process of its own, so that its death costs no other job."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable

from statland.training.stopping import SIGNALS, raise_interrupted, signals_to


def can_fork(launcher: str) -> bool:
    """Whether a job gets a child process: these launchers run many jobs in one process.

    The others start a process for each job themselves. Only on Linux is a fork safe.
    """
    return sys.platform == "linux" and launcher in ("basic", "joblib")


def run_in_child(work: Callable[[], None]) -> int:
    """Do `work` in a forked process; return its exit status, negative where a signal ended it.

    SIGINT and SIGTERM are passed on to it.
    """
    child = multiprocessing.get_context("fork").Process(target=_begin, args=(work,))
    child.start()
    with signals_to(lambda number, _: os.kill(child.pid or 0, number)):
        child.join()
    return child.exitcode or 0


def _begin(work: Callable[[], None]) -> None:
    """Do `work`, in the child: it saves and ends on a signal, and when its parent has died."""
    for number in SIGNALS:
        signal.signal(number, raise_interrupted)
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 is PR_SET_PDEATHSIG
    work()
