"""Long trainings and long sweeps in one process leak neither memory nor open files."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

TRAIN = [sys.executable, str(ROOT / "scripts/train.py")]

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="memory and open files are read from /proc"
)


def memory_and_files(process: subprocess.Popen[str]) -> tuple[float, int]:
    """Resident MiB, and the number of open files."""
    proc = Path("/proc", str(process.pid))
    pages = int((proc / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, len(list((proc / "fd").iterdir()))


@pytest.mark.slow
@needs_proc
def test_half_an_hour_of_training_leaks_nothing(tmp_path: Path) -> None:
    command = [*TRAIN, "steps=1000000000", "checkpoint_every=1000", "hydra.run.dir=a"]
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


@pytest.mark.slow
@needs_proc
def test_fifty_jobs_in_one_process_leak_nothing(tmp_path: Path) -> None:
    command = [*TRAIN, "-m", "seed=range(50)", "model=lstm", "steps=300", "probe_every=100"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        seen = [memory_and_files(process) for line in process.stdout if ": completed, " in line]
    assert process.returncode == 0
    assert len(seen) == 50
    memory, files = zip(*seen, strict=True)
    assert memory[-1] < 1.02 * memory[0]
    assert max(files[-10:]) == max(files[:10])  # the next job may or may not have begun its log
