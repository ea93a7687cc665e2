"""Tables, verdicts and figures from run folders made by hand, against sums made by hand."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, ran

from statland.records.recorder import write_summary
from statland.report import load
from statland.report.comparison import (
    constants,
    contests,
    figures,
    fold,
    forecast,
    runs_table,
    told,
    varying,
    verdicts,
)
from statland.report.page import page


def made(folder: Path, model: str, days: int, seed: int, mse: float, **other: Any) -> None:
    """A run folder as a run leaves it, with the numbers given."""
    folder.mkdir(parents=True)
    curve = other.pop("curve", {0: 0.5, 100: mse})
    rows = [f"{step},loss/validation,{value}" for step, value in curve.items()]
    rows += ["0,speed/steps_per_second,10.0", "1,speed/steps_per_second,30.0"]
    (folder / "metrics.csv").write_text("\n".join(["step,tag,value", *rows]) + "\n")
    flow = [f"{step},state,{lag},{-0.1 * lag},0,0,4,0" for step in (0, 100) for lag in range(days)]
    (folder / "gradient_flow.csv").write_text("\n".join(["step,quantity,lag", *flow]) + "\n")
    gradient = {"decay_per_day": -0.1, "first_to_last": -1.0, "reach_is_bounded": True}
    summary = {
        "status": "completed",
        "steps": 100,
        "seconds": 3.0,
        "choices": {"model": model, "model/init": "default", "data": "recall", "optimizer": "adam"},
        "config": {
            "seed": seed,
            "steps": 100,
            "sweep": "s",
            "model": {"_target_": "x", "hidden_size": 32, "init": {"gain": days * 2}},
            "data": {"max_days": days, "min_days": days, "path": None},
        },
        "validation": {"mse": mse, "mae": 0.1, "skill": 1 - mse / 0.25},
        "baselines": {"constant": 0.25, "persistence": 0.5},
        "span": days - 1,
        "gradient": {
            "before": gradient | {"reach_days": other.pop("reach", 5), "lyapunov": [-0.2]},
            "after": gradient | {"reach_days": 3, "lyapunov": [-0.3]},
        },
    }
    write_summary(folder, summary | other)


LOSSES = {
    ("rnn", 10): [0.020, 0.022, 0.024],
    ("lstm", 10): [0.001, 0.002, 0.003],
    ("rnn", 50): [0.20, 0.26, 0.21],
    ("lstm", 50): [0.21, 0.19, 0.26],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for (model, days), losses in LOSSES.items():
        for seed, mse in enumerate(losses):
            made(tmp_path / f"{model}-{days}-{seed}", model, days, seed, mse)
    return tmp_path


def test_one_row_a_run_with_its_settings_as_columns(folder: Path) -> None:
    runs = load(folder)
    assert len(runs) == 12
    assert runs.attrs["skipped"] == []
    row = runs[(runs.model == "lstm") & (runs["data.max_days"] == 10) & (runs.seed == 1)].iloc[0]
    assert row["validation"] == 0.002
    assert row["model.hidden_size"] == 32
    assert row["solved"]
    assert row["steps_to_solve"] == 100
    assert row["steps_per_second"] == 20
    assert (row["reach_before"], row["reach_after"], row["span"]) == (5, 3, 9)
    assert load(*(folder.iterdir())).equals(runs)


def test_only_what_tells_settings_apart_is_a_column(folder: Path) -> None:
    runs = load(folder)
    # min_days and init.gain follow from max_days.
    assert varying(runs) == ["model", "data.max_days"]
    same = constants(runs)
    assert same["model.hidden_size"] == 32
    assert same["data"] == "recall"
    assert "seed" not in same
    assert "model" not in same


def test_seeds_are_folded_into_mean_and_deviation(folder: Path) -> None:
    made(folder / "lost", "lstm", 10, 3, math.nan, status="diverged")
    table = fold(load(folder)).set_index(["model", "data.max_days"])
    for key, losses in LOSSES.items():
        row = table.loc[key]
        assert row["n"] == 3
        assert row["validation"] == pytest.approx(np.mean(losses))
        assert row["validation_std"] == pytest.approx(np.std(losses, ddof=1))
        assert row["skill"] == pytest.approx(1 - np.mean(losses) / 0.25)
    assert table.loc[("lstm", 10), "solved"] == "3 of 4"
    assert table.loc[("rnn", 50), "solved"] == "0 of 3"
    assert table.loc[("lstm", 10), "status"] == "3 completed, 1 diverged"
    assert "0.002 ± 0.001" in told(fold(load(folder))).to_string()


def test_a_winner_leads_by_two_paired_standard_errors(folder: Path) -> None:
    easy, hard = verdicts(load(folder))
    lead = np.array(LOSSES[("rnn", 10)]) - np.array(LOSSES[("lstm", 10)])
    error = lead.std(ddof=1) / math.sqrt(3)
    assert lead.mean() > 2 * error
    assert easy.startswith("max_days=10: lstm wins (lstm leads rnn by ")
    assert f"{lead.mean():.3g} ± {error:.2g} over 3 seeds" in easy
    assert hard.startswith("max_days=50: nothing separates the best")


def test_the_difference_is_paired_by_seed(tmp_path: Path) -> None:
    """Seeds that differ much more than the models do not hide a steady lead, and the reverse."""
    for seed, level in enumerate([0.02, 0.10, 0.18]):
        made(tmp_path / f"a{seed}", "a", 10, seed, level)
        made(tmp_path / f"b{seed}", "b", 10, seed, level + 0.01 + 0.001 * seed)
    (line,) = verdicts(load(tmp_path))
    assert "a wins" in line


def test_one_seed_names_no_winner(tmp_path: Path) -> None:
    made(tmp_path / "a", "a", 10, 0, 0.01)
    made(tmp_path / "b", "b", 10, 0, 0.2)
    assert "nothing separates" in verdicts(load(tmp_path))[0]


def test_where_no_model_beats_the_baseline_nothing_is_won(tmp_path: Path) -> None:
    for seed in range(3):
        made(tmp_path / f"a{seed}", "a", 10, seed, 0.26 + 0.001 * seed)
        made(tmp_path / f"b{seed}", "b", 10, seed, 0.36 + 0.002 * seed)
    (line,) = verdicts(load(tmp_path))
    assert "nothing beats the best baseline (0.25)" in line
    assert "nothing separates" in line


def test_on_garch_nothing_separates_the_models(tmp_path: Path) -> None:
    for model in ("rnn_cell", "lstm"):
        for seed in (0, 1):
            name = tmp_path / f"{model}{seed}"
            ran(name, f"model={model}", "data=garch", f"seed={seed}", "steps=20", "data.max_days=9")
    (line,) = verdicts(load(tmp_path))
    assert "nothing separates" in line


def test_unfinished_failed_and_foreign_folders_are_shown(folder: Path) -> None:
    made(folder / "failed", "rnn", 10, 7, math.nan, status="failed", error="out of luck")
    truncated = folder / "truncated"
    made(truncated, "rnn", 10, 8, 0.1)
    text = (truncated / "summary.json").read_text()
    (truncated / "summary.json").write_text(text[: len(text) // 2])
    foreign = folder / "foreign"
    foreign.mkdir()
    (foreign / "summary.json").write_text(json.dumps(["not", "ours"]))
    (folder / "other").mkdir()
    (folder / "other/metrics.csv").write_bytes(b"\xff\xfe\x00")
    unfinished = folder / "unfinished"
    ran(unfinished, "steps=3", "data.max_days=8", "probe_every=null")
    summary = json.loads((unfinished / "summary.json").read_text())
    (unfinished / "summary.json").unlink()
    (unfinished / ".hydra").mkdir()
    (unfinished / ".hydra/config.yaml").write_text(json.dumps(summary["config"]))
    hydra = {"hydra": {"runtime": {"choices": summary["choices"]}}}
    (unfinished / ".hydra/hydra.yaml").write_text(json.dumps(hydra))
    with (unfinished / "metrics.csv").open("a") as file:
        file.write("4,loss/valida")  # being written

    runs = load(folder)
    assert len(runs) == 14
    assert runs.set_index("run").loc["unfinished", "status"] == "unfinished"
    assert runs.set_index("run").loc["failed", "error"] == "out of luck"
    skipped = "\n".join(runs.attrs["skipped"])
    assert len(runs.attrs["skipped"]) == 3
    for name in ("truncated", "foreign", "other"):
        assert str(folder / name) in skipped
    statuses = "; ".join(fold(runs)["status"])
    assert "1 failed" in statuses
    assert "1 unfinished" in statuses
    shown = page("all", runs, {})
    for words in ("out of luck", "unfinished", "truncated"):
        assert words in shown
    assert runs_table(runs).row_count == 14


def test_the_forecast_counts_hits_and_misses(tmp_path: Path) -> None:
    cases = [(9, 0.001), (9, 0.2), (9, 0.2), (2, 0.001), (2, 0.2), (8, 0.2), (20, 0.001)]
    for seed, (reach, mse) in enumerate(cases):
        made(tmp_path / str(seed), "rnn", 10, seed, mse, reach=reach)  # span 9
    counts = forecast(load(tmp_path))
    assert counts.loc["gradient reaches the answer"].to_dict() == {"solved": 2, "not solved": 2}
    assert counts.loc["gradient falls short"].to_dict() == {"solved": 1, "not solved": 2}


def test_contests_are_within_a_market(folder: Path) -> None:
    found = contests(load(folder))
    assert [task for task, _ in found] == [{"data.max_days": 10}, {"data.max_days": 50}]
    assert all(set(contest["contestant"]) == {"rnn", "lstm"} for _, contest in found)


def test_figures_show_the_runs(folder: Path) -> None:
    runs = load(folder)
    drawn = figures(runs)
    assert set(drawn) == {"validation", "profiles", "forecast"}
    dots = [dots for dots in drawn["forecast"].axes[0].collections if len(dots.get_offsets())]
    solved = [np.asarray(d.get_offsets()) for d in dots if d.get_facecolor()[0][:3].min() < 1]
    assert sum(map(len, solved)) == 6  # all of those of 10 days, whose span is 9
    assert all((np.abs(points[:, 0] / 9 - 1) < 0.1).all() for points in solved)
    assert all((points[:, 1] == 5).all() for points in solved)
    curves, profiles = drawn["validation"], drawn["profiles"]
    panel = next(axes for axes in curves.axes if axes.get_title() == "max_days=10")
    lines = {line.get_label(): line.get_ydata() for line in panel.get_lines()}
    np.testing.assert_allclose(lines["lstm"], [0.5, 0.002])
    assert panel.get_yscale() == "log"
    flows = {line.get_label(): line.get_ydata() for line in profiles.axes[0].get_lines()}
    np.testing.assert_allclose(flows["lstm"], -0.1 * np.arange(10))


def test_a_grid_of_two_settings_gets_a_heatmap(tmp_path: Path) -> None:
    for days in (10, 20, 30):
        for size in (4, 8):
            path = tmp_path / f"{days}-{size}"
            made(path, "rnn", days, 0, days * size * 1e-4)
            summary = json.loads((path / "summary.json").read_text())
            summary["config"]["model"]["hidden_size"] = size
            write_summary(path, summary)
    figure = figures(load(tmp_path))["grid"]
    losses = np.asarray(figure.axes[1].collections[0].get_array())
    expected = np.log10([[days * size * 1e-4 for size in (4, 8)] for days in (10, 20, 30)])
    np.testing.assert_allclose(losses, expected)
    assert figure.axes[1].get_xlabel() == "model.hidden_size"


def test_the_command_writes_a_table_figures_and_one_page(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/compare.py"), str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "lstm wins" in done.stdout
    assert "gradient falls short" in done.stdout
    table = pd.read_csv(folder / "compare.csv")
    for _, row in table.iterrows():
        expected = np.mean(LOSSES[row["model"], row["data.max_days"]])
        assert row["validation"] == pytest.approx(expected)
    html = (folder / "compare.html").read_text()
    assert html.count("data:image/png;base64,") == 3
    assert not re.search(r'(src|href)="(?!data:)', html)  # self-contained
    assert (folder / "compare_validation.png").exists()
    assert len(load(folder)) == 12  # what it wrote is no run

    empty = folder / "empty"
    empty.mkdir()
    nothing = subprocess.run(
        [sys.executable, str(ROOT / "scripts/compare.py"), str(empty)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert nothing.returncode == 1
    assert nothing.stderr == f"error: no run in {empty}\n"


def test_values_of_any_kind_can_be_compared(tmp_path: Path) -> None:
    """Lists, and texts that look like markup."""
    overrides = ("steps=1", "probe_every=null", "data.max_days=6")
    for name, more in {
        "a": "+optimizer.betas=[0.9,0.99]",
        "b": "+optimizer.betas=[0.8,0.9]",
        "[/b]": "optimizer.lr=0.1",
    }.items():
        ran(tmp_path / name, *overrides, more)
    command = [sys.executable, str(ROOT / "scripts/compare.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[0.9, 0.99]" in done.stdout
    assert (tmp_path / "compare.html").exists()
    (tmp_path / "file").touch()
    command += ["--output", str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*allowed: another --output\n", done.stderr)
    command = [sys.executable, str(ROOT / "scripts/compare.py"), "nope"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nope: no such folder; allowed: sweep or run folders" in done.stderr
