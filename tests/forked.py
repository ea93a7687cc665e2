"""The scripts, each in a fork of this process: one of its own that has imported torch already.

What a person types goes through the same __main__, and ends with the same output and exit status,
in a tenth of the time. What hangs on how Python starts (the environment, signals, closed files) is
tested with subprocess instead.
"""

import os
import runpy
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import BinaryIO

import matplotlib.figure  # noqa: F401  # these two and torch take nearly all of a command's start
import torch  # noqa: F401
from conftest import ROOT


def run_script(name: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run scripts/<name> in `folder` with these arguments; its exit status and what it printed."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os._exit(_in_child(ROOT / "scripts" / name, arguments, folder, out, err))
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    command = [name, *arguments]
    return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(status), *texts)


def _in_child(
    script: Path, arguments: tuple[str, ...], folder: Path, out: BinaryIO, err: BinaryIO
) -> int:
    """Become the script; its exit status."""
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.parent))
    warnings.resetwarnings()
    status = 1
    try:
        runpy.run_path(str(script), run_name="__main__")
        status = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        else:
            status = end.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return status
