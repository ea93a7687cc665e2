"""resume= believes the run's own record alone: run.json and the checkpoint."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import ROOT, ran, same_run
from forked import run_script
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

SMALL = ("data.max_days=8", "log_every=5", "validate_every=30", "probe_every=40")


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_script("train.py", *arguments, folder=folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of 20 steps, short, and one of 60, whole."""
    folder = tmp_path_factory.mktemp("runs")
    for name, steps in (("short", 20), ("whole", 60)):
        done = train(folder, *SMALL, f"steps={steps}", f"hydra.run.dir={name}", "model=lstm")
        assert done.returncode == 0, done.stderr
    return folder


def test_from_any_directory_a_folder_that_was_moved(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "short", tmp_path / "a name with=signs, and spaces")
    (tmp_path / "elsewhere").mkdir()
    moved = "resume=../a name with=signs, and spaces"
    done = train(tmp_path / "elsewhere", moved, "steps=60")
    assert done.returncode == 0, done.stderr
    assert "note:" not in done.stdout
    same_run(runs / "whole", tmp_path / "a name with=signs, and spaces")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_what_differs_in_copies_is_said_and_not_believed(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs / "short", folder)
    config = folder / ".hydra/config.yaml"
    config.write_text(config.read_text().replace("max_days: 8", "max_days: 30"))
    identity = json.loads((folder / "run.json").read_text())
    identity["settings"]["optimizer"]["lr"] = 9.0
    (folder / "run.json").write_text(json.dumps(identity))
    done = train(tmp_path, "resume=run", "steps=60")
    assert done.returncode == 0, done.stderr
    assert "note: .hydra/config.yaml has another data.max_days: 30, not 8;" in done.stdout
    assert "run/run.json says optimizer.lr: 0.003, not 9.0; the checkpoint's" in done.stdout
    same_run(runs / "whole", folder)
    assert json.loads((folder / "run.json").read_text())["settings"]["optimizer"]["lr"] == 0.003


def test_a_run_without_copies_goes_on(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs / "short", folder)
    shutil.rmtree(folder / ".hydra")
    assert train(tmp_path, "resume=run", "steps=60").returncode == 0
    same_run(runs / "whole", folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"settings": 1, "files": 2, "choices": 3}'])
def test_a_damaged_run_json_is_one_line(content: str, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "short", tmp_path / "run")
    (tmp_path / "run/run.json").write_text(content)
    done = train(tmp_path, "resume=run", "steps=60")
    assert done.returncode == 2
    assert done.stderr.startswith("error: run/run.json ")
    assert len(done.stderr.splitlines()) == 1


def test_other_price_files_are_refused(tmp_path: Path) -> None:
    days = pd.date_range("2020-01-01", periods=90).strftime("%Y-%m-%d")
    prices = tmp_path / "prices"
    prices.mkdir()
    table = pd.DataFrame({"Date": days, "Close": [10 + (i * 7) % 5 for i in range(90)]})
    table.to_csv(prices / "mine.csv", index=False)
    market = ("data=stocks", f"data.path={prices}", *SMALL)
    assert train(tmp_path, *market, "steps=10", "hydra.run.dir=run").returncode == 0
    table.assign(Close=table.Close + 1).to_csv(prices / "mine.csv", index=False)
    refused = train(tmp_path, "resume=run", "steps=20")
    assert refused.returncode == 2
    assert "the price files are not those that the run was trained on: mine.csv" in refused.stderr
    table.to_csv(prices / "mine.csv", index=False)
    assert train(tmp_path, "resume=run", "steps=20").returncode == 0


def test_in_a_sweep_other_price_files_are_another_run(tmp_path: Path) -> None:
    days = pd.date_range("2020-01-01", periods=90).strftime("%Y-%m-%d")
    (tmp_path / "prices").mkdir()
    table = pd.DataFrame({"Date": days, "Close": [10 + (i * 7) % 5 for i in range(90)]})
    sweep = ("-m", "data=stocks", "data.path=prices", "sweep=s", "seed=0", *SMALL, "steps=3")
    for shift in (0, 1):
        table.assign(Close=table.Close + shift).to_csv(tmp_path / "prices/mine.csv", index=False)
        done = train(tmp_path, *sweep)
        assert done.returncode == 0, done.stderr
    assert "note: rnn_cell was trained on other price files; this run is beside it" in done.stdout
    identities = [json.loads(p.read_text()) for p in (tmp_path / "runs/s").glob("*/run.json")]
    assert len({json.dumps(identity["files"]) for identity in identities}) == 2


def test_a_default_that_changed_is_a_new_run(tmp_path: Path) -> None:
    """A sweep is killed, a default in configs/ changed, the command given again."""
    for name in ("scripts", "configs", "data"):
        shutil.copytree(ROOT / name, tmp_path / name)
    sweep = (sys.executable, "scripts/train.py", "-m", "sweep=s", "seed=0", *SMALL, "steps=3")
    command = {"cwd": tmp_path, "capture_output": True, "text": True}
    assert subprocess.run(sweep, check=False, **command).returncode == 0
    (tmp_path / "runs/s/rnn_cell/summary.json").unlink()
    before = (tmp_path / "runs/s/rnn_cell/metrics.csv").read_bytes()
    market = tmp_path / "configs/data/statland.yaml"
    market.write_text(market.read_text().replace("shock: 0.5", "shock: 0.25"))
    again = subprocess.run(sweep, check=False, **command)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "runs/s/rnn_cell/metrics.csv").read_bytes() == before
    shocks = {
        path.parent.name: json.loads(path.read_text())["settings"]["data"]["shock"]
        for path in (tmp_path / "runs/s").glob("*/run.json")
    }
    assert shocks == {"rnn_cell": 0.5, "rnn_cell-shock=0.25": 0.25}


def test_a_refused_command_writes_nothing_into_a_finished_run(runs: Path) -> None:
    files = {p: p.read_bytes() for p in (runs / "whole").rglob("*") if p.is_file()}
    for arguments in (["hydra.run.dir=whole", "seed=5"], ["resume=whole", "seed=5"]):
        assert train(runs, *arguments).returncode == 2
    assert {p: p.read_bytes() for p in (runs / "whole").rglob("*") if p.is_file()} == files


def test_a_run_of_another_device_goes_on_on_the_processor(tmp_path: Path) -> None:
    """device is the machine's part: a run that was stopped on cuda resumes with device=cpu."""
    done = train(tmp_path, *SMALL, "steps=20", "hydra.run.dir=run")
    assert done.returncode == 0
    packed = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    facts = json.loads(packed["facts"])
    facts["machine"]["device"] = "cuda"
    torch.save(packed | {"facts": json.dumps(facts)}, tmp_path / "run/checkpoint.pt")
    if not torch.cuda.is_available():
        assert "device is 'cuda', which is not here" in train(tmp_path, "resume=run").stderr
    assert train(tmp_path, "resume=run", "steps=40", "device=cpu").returncode == 0


def test_resumed_events_let_tensorboard_drop_what_came_after(tmp_path: Path) -> None:
    """Also for a reader that has read on before the run was cut back to its checkpoint."""
    ran(tmp_path, *SMALL, "steps=20", "checkpoint_every=10")
    first = {path.name for path in tmp_path.glob("events*")}
    ran(tmp_path, *SMALL, "steps=30", resume=True)
    (path,) = (path for path in tmp_path.glob("events*") if path.name not in first)
    starts = [e for e in EventFileLoader(str(path)).Load() if e.HasField("session_log")]
    assert [(start.session_log.status, start.step) for start in starts] == [(1, 20)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into read-only folders too")
def test_a_read_only_folder_is_one_line(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "short", tmp_path / "run")
    (tmp_path / "run").chmod(0o500)
    done = train(tmp_path, "resume=run", "steps=60")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
