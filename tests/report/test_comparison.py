"""The comparison as a command: what it prints, draws and writes."""

import math
import re
import subprocess
from html import escape
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from conftest import ran
from forked import run_script
from run_folders import LOSSES, made, made_all
from scipy import stats

from statland.report import load
from statland.report.comparison import compare, figures
from statland.report.groups import group
from statland.report.page import CAPTIONS, write
from statland.report.tables import runs_table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made_all(tmp_path)


def compared(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What scripts/compare.py prints into a pipe."""
    return run_script("compare.py", *map(str, arguments), folder=Path.cwd())


def test_unfinished_failed_and_foreign_folders_are_shown(folder: Path) -> None:
    made(folder / "failed", "rnn", 10, 7, math.nan, status="failed", error="out of luck")
    text = (folder / "rnn-10-0/summary.json").read_text()
    seeds = {"text": '"text"', "digits": "1" + "0" * 400, "deep": "[" * 10**5 + "]" * 10**5}
    bad = {name: text.replace('"seed": 0', f'"seed": {seed}') for name, seed in seeds.items()}
    bad |= {"truncated": text[: len(text) // 2], "foreign": '["not", "ours"]', "other": ""}
    bad["steps"] = f"step,tag,value\n{10**400},loss/validation,1\n"
    for name, content in bad.items():
        (folder / name).mkdir()
        file = "metrics.csv" if name in ("other", "steps") else "summary.json"
        (folder / name / file).write_bytes(content.encode() + b"\xff" * (name == "foreign"))
    unfinished = folder / "unfinished"
    ran(unfinished, "steps=1", "data.max_days=8", "probe_every=null")
    (unfinished / "summary.json").unlink()
    with (unfinished / "metrics.csv").open("a") as file:
        file.write("4,loss/valida")  # being written

    runs = load(folder)
    assert len(runs) == 14
    assert runs.set_index("run").loc["unfinished", "status"] == "unfinished"
    assert runs.set_index("run").loc["failed", "error"] == "out of luck"
    skipped = [line.split(":")[0] for line in runs.attrs["skipped"]]
    assert sorted(skipped) == sorted(str(folder / name) for name in bad)
    comparison = compare(runs)
    assert "left out: 1 failed, 1 unfinished (they count in status only)" in comparison.facts
    statuses = "; ".join(comparison.summary["status"])
    write(folder, comparison, {}, runs.attrs["skipped"])
    page = (folder / "compare.html").read_text()
    assert all(name in page for name in skipped)
    assert "1 failed" in statuses
    assert "1 unfinished" in statuses
    assert "out of luck" in page
    assert runs_table(runs, 200).row_count == 14


def test_what_a_folder_holds_is_no_code_to_a_terminal_or_a_spreadsheet(folder: Path) -> None:
    """Escapes, bidi characters and lone surrogates become spaces, and a formula gets a quote."""
    for path in folder.glob("rnn*/summary.json"):
        path.write_text(path.read_text().replace('"rnn"', '"=1\\ud800\\u001b[31m\\u202e"'))
        path.parent.rename(folder / f"\033[2J{path.parent.name}\udcff")
    (folder / "\033[2J").mkdir()
    (folder / "\033[2J/summary.json").write_text("{}")
    for name, value in {"list": [0.9, 0.99], "[/b]": "[/b]"}.items():  # and no markup
        made(folder / name, "lstm", 10, 0, 0.1, path=value)
    done = compared(folder)
    assert done.returncode == 0, done.stderr
    assert all(words in done.stdout for words in ("skipped ", "[0.9, 0.99]", "[/b]"))
    assert all(character.isprintable() or character == "\n" for character in done.stdout)
    assert pd.read_csv(folder / "compare.csv")["model"].unique().tolist() == ["'=1  [31m ", "lstm"]


def test_figures_show_the_runs(folder: Path) -> None:
    drawn = figures(group(load(folder)))
    assert list(drawn) == ["strips", "profiles", "validation", "forecast"]
    panel = next(a for a in drawn["validation"].axes if a.get_title() == "max_days=10")
    lines = {line.get_label(): line.get_ydata() for line in panel.get_lines()}
    np.testing.assert_allclose(lines["lstm"], [0.5, 0.002, 0.002])
    flows = {line.get_label(): line.get_ydata() for line in drawn["profiles"].axes[0].get_lines()}
    np.testing.assert_allclose(flows["lstm"], -0.1 * np.arange(10))
    for size in (4, 8):  # a grid of two settings gets a heatmap
        for days in (10, 20, 30):
            path = folder / "grid" / f"{days}-{size}"
            made(path, "rnn", days, 0, days * size * 1e-4, hidden_size=size)
    figure = figures(group(load(folder / "grid")))["grid"]
    losses = np.asarray(figure.axes[1].collections[0].get_array())
    np.testing.assert_allclose(losses, np.log10(np.outer([10, 20, 30], [4, 8]) * 1e-4))
    assert figure.get_supxlabel() == "model.hidden_size"
    for model in "abcdefg":  # more than six curves on top of one another are left out
        made(folder / "many" / model, model, 10, 0, 0.1)
    assert "profiles" not in figures(group(load(folder / "many")))


def test_a_link_in_the_folder_is_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("precious")
    for name in ("compare.csv", "compare.html", "compare.html.part", "compare_strips.png"):
        (folder / name).symlink_to(tmp_path / "other")
    assert compared(folder).returncode == 0
    assert (tmp_path / "other").read_text() == "precious"
    assert not (folder / "compare.html").is_symlink()


def test_the_command_writes_tables_figures_and_one_page(folder: Path) -> None:
    done = compared(folder)
    assert done.returncode == 0, done.stderr
    assert "max_days=10: lstm wins: lstm leads rnn by 0.02 (95% interval" in done.stdout
    assert "holds, unsolved" in done.stdout
    lines = done.stdout.splitlines()
    start = next(place for place, line in enumerate(lines) if "last loss" in line)
    assert max(map(len, lines[start : start + 6])) <= 100  # header, rule, four rows
    keys = zip(load(folder)["model"], load(folder)["data.max_days"], strict=True)
    for row, key in zip(lines[start + 2 : start + 6], dict.fromkeys(keys), strict=True):
        assert f"{np.mean(LOSSES[key]):.3g} ± {np.std(LOSSES[key], ddof=1):.1g}" in row

    for _, row in pd.read_csv(folder / "compare.csv").iterrows():
        expected = np.mean(LOSSES[row["model"], row["data.max_days"]])
        assert row["validation"] == pytest.approx(expected)
    tests = pd.read_csv(folder / "verdicts.csv")
    assert tests["against"].tolist() == ["rnn", "baseline constant"] * 2
    assert tests["seeds"].tolist() == [3] * 4
    leads = np.array(LOSSES["rnn", 10]) - LOSSES["lstm", 10]
    oracle = stats.ttest_1samp(leads, 0)
    expected = [leads.mean(), *oracle.confidence_interval(0.95), oracle.pvalue]
    assert tests.loc[0, ["lead", "low", "high", "p"]].tolist() == pytest.approx(expected)

    html = (folder / "compare.html").read_text()
    assert html.count("data:image/png;base64,") == 4
    assert all(escape(CAPTIONS[name]) in html for name in ("strips", "forecast"))
    first = re.findall("<th>([^<]*)", html.partition("<details>")[0])
    question = ["model", "max_days", "solved", "steps", "last loss", "share"]
    assert first[:9] == [*question, "importance", "reach", "gradient"]
    assert not re.search(r'src="(?!data:)', html)  # self-contained
    links = set(re.findall(r'href="([^"]*)"', html))
    assert links == {unquote(link) for link in links if (folder / unquote(link)).is_dir()}
    assert len(links) == 12
    assert html.index('class="verdict"') < html.index("<table") < html.index("<img")
    sentences = [verdict.sentence for verdict in compare(load(folder)).verdicts]
    for words in ("3 of 3", "29% to 100%", *sentences):
        assert words in html
    assert "nan" not in re.sub('base64,[^"]*', "", html) + done.stdout
    assert (folder / "compare_validation.png").exists()
    assert len(load(folder)) == 12  # what it wrote is no run


def test_the_command_selects_and_groups(folder: Path) -> None:
    done = compared(folder, "--by", "data.max_days,model", "--where", "data.max_days=10")
    assert done.returncode == 0, done.stderr
    assert "max_days=10: lstm wins" in done.stdout
    assert "max_days=50" not in done.stdout
    assert list(pd.read_csv(folder / "compare.csv"))[:2] == ["data.max_days", "model"]


def test_mistakes_are_one_line(folder: Path) -> None:
    (folder / "file").touch()
    (folder / "empty").mkdir()
    for arguments, status, message in (
        ([folder, "--by", "days"], 2, r"error: --by is 'days'; allowed: model, data, .*"),
        ([folder, "--tune", "model"], 2, "error: --tune is model, with 2 values and 3 seeds; .*"),
        ([folder / "empty"], 1, rf"error: no run in {folder}/empty"),
        ([folder, "--output", folder / "file"], 1, r"error: .*allowed: another --output"),
        ([folder / "nope"], 2, r".*nope: no such folder; allowed: sweep or run folders"),
    ):
        refused = compared(*arguments)
        assert refused.returncode == status
        assert re.fullmatch(message, refused.stderr.splitlines()[-1])
        assert "Traceback" not in refused.stderr


def test_what_papers_printed_stands_beside_the_results_and_is_no_part_of_them(
    tmp_path: Path,
) -> None:
    """Of all runs together, each once; the table and the groups are as without."""
    made_all(tmp_path / "plain")
    paper = {"Table 7, T=100": 74000, "LSTM": "solves 1.5e2 days"}
    made_all(tmp_path / "printed", published=paper)
    plain, printed = (compare(load(tmp_path / name)) for name in ("plain", "printed"))
    facts = [fact for fact in printed.facts if fact.startswith("published")]
    assert facts == [
        "published, not measured here: Table 7, T=100: 74000",
        "published, not measured here: LSTM: solves 1.5e2 days",
    ]
    assert [fact for fact in printed.facts if fact not in facts] == plain.facts
    assert printed.summary.equals(plain.summary)
