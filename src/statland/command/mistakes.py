"""How a command ends that cannot do what it was asked to: with one line, and no traceback."""

import errno
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from statland.command.explain import MULTIRUN, explain
from statland.command.folders import forget_sweep, remove_new
from statland.settings import SettingError
from statland.training.stopping import Interrupted, ignore_signals

log = logging.getLogger(__name__)

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
        raise
    except KeyboardInterrupt:  # before or after the training, which saves
        remove_new()
        sys.exit(130)
    except SettingError as error:  # in what Hydra composed
        forget_sweep()
        _end(error, 2)
    except Exception as error:
        end_if_disk_is_full(error)
        ours = isinstance(error, HydraException | OmegaConfBaseException)
        frames = traceback.extract_tb(error.__traceback__)
        if not ours and any(frame.name == "run_job" for frame in frames):
            raise
        print(f"error: {explain(error, sys.argv[1:])}", file=sys.stderr)
        forget_sweep()
        sys.exit(1)
    finally:
        del os.environ["HYDRA_FULL_ERROR"]


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
