"""The scripts, each in a fork of this process: one of its own that has imported torch already.

What a person types goes through the same __main__, and ends with the same output and exit status,
in a tenth of the time. What hangs on how Python starts (the environment, a signal while it imports,
closed files) is tested with subprocess instead.
"""

import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

# These take nearly all of a command's start, and of its first probe, which imports torch._dynamo.
import matplotlib.figure  # noqa: F401
import torch._dynamo  # noqa: F401
from conftest import ROOT

import statland.command.job  # noqa: F401


class Script:
    """A script that runs in a fork, with those parts of subprocess.Popen that the tests need.

    It is killed where the block that it is the context of ends before it does.
    """

    def __init__(
        self, name: str, *arguments: str, folder: Path, prepare: Callable[[], None] | None = None
    ) -> None:
        self.args, self.returncode = [name, *arguments], None
        self.printed = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                if prepare is not None:
                    prepare()
                status = _in_child(ROOT / "scripts" / name, arguments, folder, *self.printed)
            finally:
                os._exit(status)

    def poll(self) -> int | None:
        """Return its exit status; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait_for(self, path: Path, words: str) -> None:
        """Wait until a file that it writes has these words."""
        while not (path.exists() and words in path.read_text()):
            assert self.poll() is None, self.communicate()
            time.sleep(0.002)

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        end = time.monotonic() + timeout
        while self.poll() is None:
            assert time.monotonic() < end, f"{self.args} has not ended after {timeout} s"
            time.sleep(0.002)
        for file in self.printed:
            file.seek(0)
        out, err = (file.read().decode() for file in self.printed)
        return out, err

    def __enter__(self) -> "Script":
        return self

    def __exit__(self, *_: object) -> None:
        if self.poll() is None:
            self.send_signal(signal.SIGKILL)
            os.waitpid(self.pid, 0)
        for file in self.printed:
            file.close()


def run_script(name: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run scripts/<name> in `folder` with these arguments; its exit status and what it printed."""
    with Script(name, *arguments, folder=folder) as script:
        texts = script.communicate(600)
    assert script.returncode is not None
    return subprocess.CompletedProcess(script.args, script.returncode, *texts)


def _in_child(
    script: Path, arguments: tuple[str, ...], folder: Path, out: BinaryIO, err: BinaryIO
) -> int:
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
