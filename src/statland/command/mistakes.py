"""How a command ends that cannot do what it was asked to: with one line, and no traceback."""

import errno
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from statland.command.child import can_fork, run_in_child
from statland.command.explain import MULTIRUN, explain
from statland.command.folders import forget_sweep, remove_new
from statland.settings import SettingError
from statland.training.stopping import Interrupted, ignore_signals

log = logging.getLogger(__name__)

AGAIN = "STATLAND_AGAIN"  # in the environment: how often a sweep has lost a worker

# Whether whoever gave the command wants tracebacks, where one line would do.
FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR") == "1"


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Let what Hydra refuses end the command with one line and exit status 1.

    With HYDRA_FULL_ERROR=1, and for an error inside a job, the traceback is shown.
    """
    # Hydra's parser would take what stands before -m, and refuse what stands behind it.
    sys.argv[1:] = sorted(map(quoted, sys.argv[1:]), key=lambda argument: argument not in MULTIRUN)
    if FULL_ERROR:
        yield
        return
    if any(argument.startswith("--e") for argument in sys.argv[1:]):  # or as much of it
        _end("--experimental-rerun would run code from a file; allowed: resume=FOLDER", 2)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra would print it and exit by itself
    try:
        yield
    except Interrupted:
        ignore_signals()  # all is saved: a second Ctrl-C would only show a traceback
        remove_new()  # or nothing was begun
        raise
    except KeyboardInterrupt:  # before or after the training, which saves
        remove_new()
        sys.exit(130)
    except SettingError as error:  # in what Hydra composed
        forget_sweep()
        _end(error, 2)
    except Exception as error:
        end_if_disk_is_full(error)
        _go_on_without_worker(error)
        ours = isinstance(error, HydraException | OmegaConfBaseException)
        frames = traceback.extract_tb(error.__traceback__)
        if not ours and any(frame.name == "run_job" for frame in frames):
            raise
        print(f"error: {explain(error, sys.argv[1:])}", file=sys.stderr)
        forget_sweep()
        sys.exit(1)
    finally:
        os.environ.pop("HYDRA_FULL_ERROR", None)


def _go_on_without_worker(error: Exception) -> None:
    """Where a worker process of joblib died, which ends all of them, give the command again.

    The jobs in progress have saved, and go on. Three times at most: it could die again and again.
    """
    times = int(os.environ.get(AGAIN, 0))
    if type(error).__name__ != "TerminatedWorkerError" or times == 3 or not can_fork("joblib"):
        return
    print("a worker process died; the sweep goes on", flush=True)
    os.environ[AGAIN] = str(times + 1)
    del os.environ["HYDRA_FULL_ERROR"]
    command = [sys.executable, *sys.argv, f"hydra.sweep.dir='{HydraConfig.get().sweep.dir}'"]
    status = run_in_child(lambda: os.execv(sys.executable, command))
    sys.exit(status if status >= 0 else 128 - status)


def quoted(argument: str) -> str:
    """resume=FOLDER with the folder quoted: Hydra's grammar would stop at an = in its name."""
    key, _, value = argument.partition("=")
    if key == "resume" and value not in ("", "null") and not value.startswith(("'", '"', "$")):
        return f"{key}='{value}'"
    return argument


@contextmanager
def refusals_in_one_line() -> Iterator[None]:
    """Let a setting that cannot be end a run with one line and exit status 2.

    What the machine lacks, disk or memory, ends it with one line and exit status 1.
    """
    try:
        yield
    except SettingError as error:
        _end(error, 2)
    except OSError as error:
        end_if_disk_is_full(error)
        log.exception("failed")
        _end(error, 1)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        log.exception("not enough memory")
        reason = SettingError(str(error))  # one line
        _end(
            f"not enough memory: {reason}; allowed: smaller data.batch_size, data.max_days, "
            f"model.hidden_size or model.num_layers",
            1,
        )


def _end(reason: object, status: int) -> NoReturn:
    if FULL_ERROR:
        traceback.print_exc()
    print(f"error: {reason}", file=sys.stderr)
    sys.exit(status)


def end_if_disk_is_full(error: BaseException) -> None:
    """Where that is what `error` says, end the command with one line and exit status 1."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        print(
            f"error: the disk is full: {error}; what was written stays readable, and the run goes "
            f"on with resume=, a sweep when it is given again",
            file=sys.stderr,
        )
        sys.exit(1)
