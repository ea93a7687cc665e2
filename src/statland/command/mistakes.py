"""Errors that end a command with one line on stderr, and no traceback."""

import errno
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from statland.command.compose import GROUPS
from statland.settings import SettingError, did_you_mean, flatten, printable

FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR") == "1"  # whether the user asks for tracebacks

# Hydra's message about a choice that a config group does not have.
UNKNOWN_CHOICE = re.compile(r"'[\w/]*?([^'/]*)'\s+Available options in '(.*)':\n((?:\t.*\n)+)")


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """End the command with one line and exit status 2 for a SettingError, else exit status 1.

    An error that is a bug keeps its traceback; with HYDRA_FULL_ERROR=1 all do.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # or Hydra would print the error and exit itself
    if not FULL_ERROR:  # TensorBoard raises in the main thread what its writer has met
        threading.excepthook = lambda met: (
            None if isinstance(met.exc_value, OSError) else threading.__excepthook__(met)
        )
    try:
        yield
    except Exception as error:
        line = describe(error)
        if line is None:
            raise
        if FULL_ERROR:
            traceback.print_exc()
        print(f"error: {SettingError(line)}", file=sys.stderr)
        sys.exit(2 if isinstance(error, SettingError) else 1)


def describe(error: Exception) -> str | None:
    """Return one line on what is wrong; None where the error is a bug."""
    if isinstance(error, SettingError):
        return str(error)
    raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    is_of_hydra = isinstance(error, HydraException | OmegaConfBaseException)
    if is_of_hydra or Path(hydra.__file__).parent in raised_in.parents:
        return explain(error)
    if isinstance(error, OSError):
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        return f"the disk is full: {error}; resume= goes on" if is_full else str(error)
    if isinstance(error, UnicodeEncodeError):
        name = error.object[max(0, error.start - 40) : error.end + 40]
        return f"{printable(name)!r} is not UTF-8; allowed: names that are"
    is_memory = isinstance(error, RuntimeError) and "memory" in str(error)
    if is_memory or isinstance(error, MemoryError):
        return f"not enough memory: {error}; allowed: smaller sizes, such as data.batch_size"
    return None


def explain(error: Exception) -> str:
    """Return Hydra's message as one line, with what is allowed and the nearest right name."""
    message, cause = str(error), error.__cause__
    if isinstance(node := getattr(cause, "parent_node", None), DictConfig):  # it lacks the key
        key: Any = getattr(cause, "full_key", "")
        root: Any = OmegaConf.to_container(node._get_root(), resolve=False)
        prefix = key.rpartition(".")[0]
        names = (k for k in map(str, node) if k[0] != "_" and k != "hydra")
        siblings = [f"{prefix}.{k}".lstrip(".") for k in names]
        allowed = ", ".join(siblings) or f"none below {prefix}"
        nearest = did_you_mean(key, [*siblings, *flatten(root), *GROUPS])
        return f"{key} is no setting; allowed: {allowed}{nearest}"
    if found := UNKNOWN_CHOICE.search(message):
        name, group, options = found[1], found[2], found[3].split()
        nearest = did_you_mean(name, options)
        return f"{group} is {name!r}; allowed: {', '.join(options)}{nearest}"
    return f"{message}{f': {cause}' if cause else ''}; HYDRA_FULL_ERROR=1 shows where"


def hydra_arguments(arguments: list[str]) -> list[str]:
    """Return a command's arguments as Hydra reads them.

    A folder is quoted, as Hydra's grammar would stop at an = in its name, and what is special
    within quotes is escaped; folder= may hold an interpolation. hydra.run.dir= stands for folder=,
    as Hydra itself would make the folder. -m comes first, where Hydra expects it.
    """
    found = []
    for argument in arguments:
        argument.encode()  # JSON and TensorBoard take no name that is not UTF-8
        key, equals, value = re.sub(r"^hydra\.run\.dir=", "folder=", argument).partition("=")
        if key in ("resume", "folder") and not re.match(r"['\"$]|(null)?$", value):
            special = r"(\\*)('|\$\{|$)" if key == "resume" else r"(\\*)('|$)"
            escaped = re.sub(special, lambda m: m[1] * 2 + (m[2] and "\\" + m[2]), value)
            value = f"'{escaped}'"
        found.append(key + equals + value)
    return sorted(found, key=lambda argument: argument not in ("-m", "--multirun"))
