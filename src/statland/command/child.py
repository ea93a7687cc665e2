"""A job of a sweep in a process of its own, so that its death costs no other job."""

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType

from statland.training.stopping import SIGNALS, raise_interrupted, signals_to

# Where these launchers run jobs one after another in one process, each gets a child of its own. The
# others start a process a job themselves. Elsewhere than on Linux a fork is not safe.
FORKED = ("basic", "joblib")


def can_fork(launcher: str) -> bool:
    """Whether a job on this launcher gets a child process."""
    return sys.platform == "linux" and launcher in FORKED


def run_in_child(work: Callable[[], None]) -> int:
    """Do `work` in a forked process; its exit status, negative where a signal ended it.

    SIGINT and SIGTERM are passed on to it, and waited out.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # or the child would print it again
    child = os.fork()
    if child == 0:
        _end_with_parent()
        os._exit(_status_of(work))

    def pass_on(number: int, _: FrameType | None) -> None:
        os.kill(child, number)

    with signals_to(pass_on):
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _end_with_parent() -> None:
    """Let this process get SIGTERM, and so save, when its parent dies, however that does."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _status_of(work: Callable[[], None]) -> int:
    """Do `work`; the exit status that a process ends with that does nothing else."""
    for number in SIGNALS:
        signal.signal(number, raise_interrupted)
    try:
        work()
        status = 0
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return status
