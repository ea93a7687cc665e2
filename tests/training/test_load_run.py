"""A notebook continues where a run ended."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import OWN, ran

from statland import load_run
from statland.records import checkpoint
from statland.records.summary import read_summary
from statland.settings import SettingError
from statland.training.evaluation import evaluate

QUICK = ("steps=20", "probe_every=10", "data.max_days=12", "checkpoint_every=8")


def files(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("model", ["lstm", "transformer"])
def test_it_predicts_what_the_run_s_own_model_did(model: str, tmp_path: Path) -> None:
    summary = ran(tmp_path / "a", f"model={model}", *QUICK)
    (tmp_path / "a").rename(tmp_path / "moved")
    before, random = files(tmp_path), torch.get_rng_state()
    run = load_run(tmp_path / "moved")
    assert files(tmp_path) == before
    assert torch.equal(torch.get_rng_state(), random)
    assert run.updates == 20
    assert run.settings["model"] == summary["config"]["model"]
    assert not any(module.training for module in run.model.modules())
    scores = evaluate(run.model, run.market, run.market.validation())
    assert scores["mse"] == summary["validation"]["mse"]


def test_a_run_of_ones_own_needs_its_package_named(tmp_path: Path) -> None:
    own = (OWN, "trust=[two_files]", "model=convolution", "data=pair")
    summary = ran(tmp_path, *own, *QUICK, "dtype=float64")
    with pytest.raises(SettingError, match=r"data\._target_ is two_files\.pair\.Pair; allowed: "):
        load_run(tmp_path)
    assert load_run(tmp_path, trust="two_files").updates == 20
    run = load_run(str(tmp_path), trust=["two_files"])
    batches = [b.to(torch.device("cpu"), torch.float64) for b in run.market.validation()]
    assert evaluate(run.model, run.market, batches)["mse"] == summary["validation"]["mse"]


def test_a_run_in_progress_is_read_at_its_newest_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of a run's saves; the lock that it holds is no concern of a reader."""
    seen = []
    save = checkpoint.save

    def save_and_load(folder: Path, state: checkpoint.State) -> None:
        save(folder, state)
        run = load_run(folder)
        weights = state["model"].items()
        assert all(torch.equal(run.model.state_dict()[name], w) for name, w in weights)
        seen.append(run.updates)

    monkeypatch.setattr(checkpoint, "save", save_and_load)
    ran(tmp_path, *QUICK)
    assert seen == [8, 16, 20]


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path) -> None:
    ran(tmp_path / "a", *QUICK)
    made = tmp_path / "a/checkpoint.pt"
    for break_it, words in (
        (lambda: made.write_bytes(b"junk"), "a/checkpoint.pt cannot be read: "),
        (made.unlink, "a has no checkpoint yet; allowed: a run that has made one"),
        ((tmp_path / "a/run.json").unlink, "a has no run.json; allowed: the folder of a run"),
        (lambda: shutil.rmtree(tmp_path / "a"), "a has no run.json; allowed: the folder of a run"),
    ):
        break_it()
        with pytest.raises(SettingError) as refused:
            load_run(tmp_path / "a")
        assert words in str(refused.value)
        assert "\n" not in str(refused.value)


def test_no_code_of_the_folder_runs(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/ran",)

    ran(tmp_path / "a", *QUICK)
    state = torch.load(tmp_path / "a/checkpoint.pt", weights_only=True)
    torch.save(state | {"evil": Evil()}, tmp_path / "a/checkpoint.pt")
    with pytest.raises(SettingError, match="cannot be read"):
        load_run(tmp_path / "a")
    torch.save(state, tmp_path / "a/checkpoint.pt")
    identity = json.loads((tmp_path / "a/run.json").read_text())
    identity["settings"]["model"]["_target_"] = "os.system"
    (tmp_path / "a/run.json").write_text(json.dumps(identity))
    with pytest.raises(SettingError, match=r"model\._target_ is os\.system; allowed: "):
        load_run(tmp_path / "a")
    assert not (tmp_path / "ran").exists()


def test_price_files_that_changed_are_named(tmp_path: Path) -> None:
    days = pd.date_range("2020-01-01", periods=90).strftime("%Y-%m-%d")
    closes = 10 + np.random.default_rng(0).random(90)
    (tmp_path / "prices").mkdir()
    file = tmp_path / "prices/mine.csv"
    pd.DataFrame({"Date": days, "Close": closes}).to_csv(file, index=False)
    summary = ran(tmp_path / "a", "data=stocks", f"data.path={tmp_path}/prices", *QUICK)
    run = load_run(tmp_path / "a")
    scores = evaluate(run.model, run.market, run.market.validation())
    assert scores["mse"] == summary["validation"]["mse"]
    file.write_text(file.read_text().replace(f"{days[5]},1", f"{days[5]},2"))
    with pytest.raises(SettingError, match=r"price files are not those .* on: mine\.csv; allowed"):
        load_run(tmp_path / "a")


HEAVY = ("hydra", "tensorboard", "matplotlib", "pandas", "scipy")


@pytest.mark.parametrize(
    ("line", "unused"),
    [
        ("import statland; statland.__all__", ("torch", "rich", *HEAVY)),
        ("import statland.gradients", ("rich", *HEAVY)),
        ("from statland import Monitor, load_run", HEAVY),
        ("import statland.gradients.figures, statland.report.figures", ("matplotlib.pyplot",)),
    ],
)
def test_an_import_loads_no_package_before_it_is_needed(line: str, unused: tuple[str]) -> None:
    code = f"import sys; {line}; print('statland' in sys.modules, {{*{unused}}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True set()\n"


@pytest.mark.parametrize("data", ["recall", "stocks"])
def test_a_completed_run_is_validated_on_other_companies_too(data: str, tmp_path: Path) -> None:
    """Without changing it; price files have no others."""
    settings = (f"data={data}", "data.max_days=8", "steps=9", "probe_every=null")
    again = ran(tmp_path, *settings)["validation_again"]
    run = load_run(tmp_path)
    others = run.market.validation_again()
    assert again == (evaluate(run.model, run.market, others)["mse"] if others else None)
    assert (again is None) == (data == "stocks")
    assert read_summary(tmp_path)["validation_again"] == again
