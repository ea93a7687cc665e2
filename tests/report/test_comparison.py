"""The comparison as a command: what it prints, draws and writes."""

import json
import math
import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from conftest import ran
from forked import run_script
from run_folders import LOSSES, made, made_all
from scipy import stats

from statland.records.recorder import write_summary
from statland.report import load
from statland.report.comparison import compare, figures
from statland.report.groups import group
from statland.report.page import write
from statland.report.tables import runs_table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made_all(tmp_path)


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
    comparison = compare(runs)
    assert "left out: 1 failed, 1 unfinished (they count in status only)" in comparison.facts
    statuses = "; ".join(comparison.summary["status"])
    assert "1 failed" in statuses
    assert "1 unfinished" in statuses
    write(folder, comparison, {}, runs.attrs["skipped"])
    shown = (folder / "compare.html").read_text()
    for words in ("out of luck", "unfinished", "truncated"):
        assert words in shown
    assert runs_table(runs).row_count == 14


def test_figures_show_the_runs(folder: Path) -> None:
    runs = load(folder)
    drawn = figures(group(runs))
    assert set(drawn) == {"validation", "profiles", "forecast"}
    forecasts = drawn["forecast"].axes[0]
    dots = [line for line in forecasts.get_lines() if len(line.get_xdata()) == 1]
    solved = [dot for dot in dots if dot.get_markerfacecolor() == dot.get_color()]
    assert (len(dots), len(solved)) == (12, 6)
    assert forecasts.get_xticklabels()[0].get_text() == "9"  # the span of those of 10 days
    assert all(abs(dot.get_xdata()[0]) < 0.5 and dot.get_ydata() == [5] for dot in solved)
    curves, profiles = drawn["validation"], drawn["profiles"]
    panel = next(axes for axes in curves.axes if axes.get_title() == "max_days=10")
    lines = {line.get_label(): line.get_ydata() for line in panel.get_lines()}
    np.testing.assert_allclose(lines["lstm"], [0.5, 0.002, 0.002])
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
    figure = figures(group(load(tmp_path)))["grid"]
    losses = np.asarray(figure.axes[1].collections[0].get_array())
    expected = np.log10([[days * size * 1e-4 for size in (4, 8)] for days in (10, 20, 30)])
    np.testing.assert_allclose(losses, expected)
    assert figure.get_supxlabel() == "model.hidden_size"


def compared(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What scripts/compare.py prints into a pipe."""
    return run_script("compare.py", *map(str, arguments), folder=Path.cwd())


def test_the_command_writes_tables_figures_and_one_page(folder: Path) -> None:
    done = compared(folder)
    assert done.returncode == 0, done.stderr
    assert "max_days=10: lstm wins: lstm leads rnn by 0.02 (95% interval" in done.stdout
    assert "falls short, unsolved" in done.stdout
    lines = done.stdout.splitlines()
    start = next(place for place, line in enumerate(lines) if "last mse" in line)
    assert max(map(len, lines[start : start + 6])) <= 100  # header, rule, four rows
    for row, losses in zip(lines[start + 2 : start + 6], load_order(folder), strict=True):
        assert f"{np.mean(losses):.4g} ± {np.std(losses, ddof=1):.2g}" in row

    table = pd.read_csv(folder / "compare.csv")
    for _, row in table.iterrows():
        expected = np.mean(LOSSES[row["model"], row["data.max_days"]])
        assert row["validation"] == pytest.approx(expected)
    tests = pd.read_csv(folder / "verdicts.csv")
    assert tests["against"].tolist()[0::2] == ["rnn", "rnn"]
    assert tests["against"].tolist()[1::2] == ["baseline constant"] * 2
    assert tests["seeds"].tolist() == [3] * 4
    for days, row in zip((10, 50), tests[::2].itertuples(), strict=True):
        leads = np.array(LOSSES["rnn", days]) - LOSSES["lstm", days]
        oracle = stats.ttest_1samp(leads, 0)
        assert (row.lead, row.p) == pytest.approx((leads.mean(), oracle.pvalue))
        assert (row.low, row.high) == pytest.approx(tuple(oracle.confidence_interval(0.95)))

    html = (folder / "compare.html").read_text()
    assert html.count("data:image/png;base64,") == 3
    assert not re.search(r'src="(?!data:)', html)  # self-contained
    links = set(re.findall(r'href="([^"]*)"', html))
    assert links == {unquote(link) for link in links if (folder / unquote(link)).is_dir()}
    assert len(links) == 12
    verdict, table = html.index('class="verdict"'), html.index("<table")
    assert verdict < table < html.index("<img")
    assert "3 of 3" in html
    assert "29% to 100%" in html
    for verdict in compare(load(folder)).verdicts:
        assert verdict.sentence in html
    assert "nan" not in re.sub('base64,[^"]*', "", html) + done.stdout
    assert (folder / "compare_validation.png").exists()
    assert len(load(folder)) == 12  # what it wrote is no run


def load_order(folder: Path) -> list[list[float]]:
    """The losses of each row, in the order in which its first run was read."""
    keys = zip(load(folder)["model"], load(folder)["data.max_days"], strict=True)
    return [LOSSES[key] for key in dict.fromkeys(keys)]


def test_the_command_selects_and_groups(folder: Path) -> None:
    done = compared(folder, "--by", "data.max_days,model", "--where", "data.max_days=10")
    assert done.returncode == 0, done.stderr
    assert "max_days=10: lstm wins" in done.stdout
    assert "max_days=50" not in done.stdout
    assert list(pd.read_csv(folder / "compare.csv"))[:2] == ["data.max_days", "model"]
    refused = compared(folder, "--by", "days")
    assert refused.returncode == 2
    assert re.fullmatch(r"error: --by is 'days'; allowed: model, data, .*\n", refused.stderr)


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    nothing = compared(tmp_path)
    assert nothing.returncode == 1
    assert nothing.stderr == f"error: no run in {tmp_path}\n"


def test_values_of_any_kind_can_be_compared(tmp_path: Path) -> None:
    """Lists, and texts that look like markup."""
    overrides = ("steps=1", "probe_every=null", "data.max_days=6")
    for name, more in {
        "a": "+optimizer.betas=[0.9,0.99]",
        "b": "+optimizer.betas=[0.8,0.9]",
        "[/b]": "optimizer.lr=0.1",
    }.items():
        ran(tmp_path / name, *overrides, more)
    done = compared(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "[0.9, 0.99]" in done.stdout
    assert (tmp_path / "compare.html").exists()
    (tmp_path / "file").touch()
    refused = compared(tmp_path, "--output", tmp_path / "file")
    assert refused.returncode == 1
    assert re.fullmatch(r"error: .*allowed: another --output\n", refused.stderr)
    refused = compared(tmp_path / "nope")
    assert refused.returncode == 2
    assert "nope: no such folder; allowed: sweep or run folders" in refused.stderr


def test_what_papers_printed_is_said_beside_the_results_and_is_no_part_of_them(
    tmp_path: Path,
) -> None:
    """Of all runs together, each once; the table and the groups are as without."""
    made_all(tmp_path / "plain")
    for place, ((model, days), losses) in enumerate(LOSSES.items()):
        for seed, mse in enumerate(losses):
            printed = {"Table 7, T=100": 74000} | ({"LSTM": "solves 1.5e2 days"} if place else {})
            folder = tmp_path / "printed" / f"{model}-{days}-{seed}"
            made(folder, model, days, seed, mse, published=printed)
    plain, printed = (compare(load(tmp_path / name)) for name in ("plain", "printed"))
    said = [fact for fact in printed.facts if fact.startswith("published")]
    assert said == [
        "published, not measured here: Table 7, T=100: 74000",
        "published, not measured here: LSTM: solves 1.5e2 days",
    ]
    assert [fact for fact in printed.facts if fact not in said] == plain.facts
    assert printed.summary.equals(plain.summary)
