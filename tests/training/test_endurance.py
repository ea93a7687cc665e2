"""A long training leaks neither memory nor open files."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT


def memory_and_files(process: subprocess.Popen[str]) -> tuple[float, int]:
    proc = Path("/proc", str(process.pid))
    pages = int((proc / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, len(list((proc / "fd").iterdir()))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="memory and files are read in /proc")
def test_half_an_hour_of_training_leaks_nothing(tmp_path: Path) -> None:
    train = [sys.executable, str(ROOT / "scripts/train.py")]
    command = [*train, "steps=1000000000", "checkpoint_every=1000", "hydra.run.dir=a"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 30 * 60
        while not (tmp_path / "a/checkpoint.pt").exists():
            assert process.poll() is None
            time.sleep(0.05)
        first = memory_and_files(process)
        time.sleep(end - time.monotonic())
        last = memory_and_files(process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 143
    assert last[0] < 1.02 * first[0]
    assert last[1] == first[1]
