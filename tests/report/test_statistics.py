"""Rows of the table: means, solved runs and their interval, and what fits on a screen."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from run_folders import LOSSES, made, made_all

from statland.records.results import step_solved
from statland.report import load
from statland.report.groups import group
from statland.report.statistics import summarise
from statland.report.tables import before_after, by_market, for_screen, format_summary, runs_table


def test_a_row_holds_mean_and_deviation_over_seeds(tmp_path: Path) -> None:
    made_all(tmp_path)
    made(tmp_path / "lost", "lstm", 10, 3, math.nan, status="diverged")
    summary = summarise(group(load(tmp_path)))
    table = summary.set_index(["model", "data.max_days"])
    for key, losses in LOSSES.items():
        row = table.loc[key]
        assert row["n"] == 3
        assert row["validation"] == pytest.approx(np.mean(losses))
        assert row["validation_std"] == pytest.approx(np.std(losses, ddof=1))
        assert row["skill"] == pytest.approx(1 - np.mean(losses) / 0.25)
    assert table.loc[("lstm", 10), "solved"] == "3 of 4"
    assert table.loc[("rnn", 50), "solved"] == "0 of 3"
    assert table.loc[("lstm", 10), "status"] == "3 completed, 1 diverged"
    assert "0.002 ± 0.001" in format_summary(summary).to_string()


def test_the_interval_of_a_proportion_is_clopper_and_pearsons(tmp_path: Path) -> None:
    """In closed form where none or all were solved, and else by the binomial tails."""
    for model, count in (("none", 0), ("all", 5), ("some", 2)):
        for seed in range(5):
            made(tmp_path / f"{model}{seed}", model, 10, seed, 0.001 if seed < count else 0.2)
    table = summarise(group(load(tmp_path))).set_index("model")[["solved_low", "solved_high"]]
    edge = 1 - 0.025 ** (1 / 5)
    assert tuple(table.loc["none"]) == pytest.approx((0, edge))
    assert tuple(table.loc["all"]) == pytest.approx((1 - edge, 1))
    low, high = table.loc["some"]

    def at_least(k: int, p: float) -> float:
        return sum(math.comb(5, i) * p**i * (1 - p) ** (5 - i) for i in range(k, 6))

    assert at_least(2, low) == pytest.approx(0.025)
    assert 1 - at_least(3, high) == pytest.approx(0.025)


def test_solved_is_two_validations_running() -> None:
    assert step_solved([(0, 0.5), (50, 0.01), (100, 0.3), (150, 0.02), (200, 0.01)], 0.025) == 150
    assert math.isnan(step_solved([(0, 0.5), (50, 0.01), (100, 0.3), (150, 0.01)], 0.025))
    assert math.isnan(step_solved([(50, 0.01), (50, 0.01)], 0.025))  # one validation, twice there
    assert math.isnan(step_solved([(0, 0.01), (50, 0.02)], math.nan))


def test_the_dependence_on_the_weights_is_their_norm_together(tmp_path: Path) -> None:
    """Of 3e200 and 4e200 it is 5e200, which has no square; unknown for a model without."""
    sizes = {"a": math.log10(3) + 200, "b": math.log10(4) + 200, "exactly 0": None}
    known = {"before": {"log10_dp_dw": sizes}, "after": {"log10_dp_dw": {"exactly 0": None}}}
    made(tmp_path / "lstm", "lstm", 10, 0, 0.1, gradient=known)
    made(tmp_path / "tcn", "tcn", 10, 0, 0.1)
    runs = load(tmp_path).set_index("model")
    assert runs.loc["lstm", "log10_dp_dw_before"] == pytest.approx(math.log10(5) + 200)
    assert math.isnan(runs.loc["lstm", "log10_dp_dw_after"])
    assert math.isnan(runs.loc["tcn", "log10_dp_dw_before"])


def test_steps_and_sequences_to_solve_are_medians_with_never(tmp_path: Path) -> None:
    """Run by run: seeds of one row may have had batches of different sizes."""
    for seed, (at, size) in enumerate([(20, 3700), (40, 32), (60, 100)]):
        curve = {0: 0.5, at: 0.001, 100: 0.001}
        made(tmp_path / f"a{seed}", "a", 10, seed, 0.001, curve=curve, batch_size=size)
        made(tmp_path / f"b{seed}", "b", 10, seed, 0.2, batch_size=32)
        made(tmp_path / f"c{seed}", "c", 10, seed, 0.001, curve=curve)
    spike = {0: 0.5, 20: 0.001, 60: 0.001, 100: 0.2}  # at the end undoes nothing
    made(tmp_path / "d", "d", 10, 0, 0.2, curve=spike, batch_size=3700)
    summary = summarise(group(load(tmp_path), by=["model"]))
    table = summary.set_index("model")
    assert (table.loc["d", "solved"], table.loc["d", "validation"]) == ("1 of 1", 0.2)
    assert table["steps_to_solve"].to_dict() == {"a": 40, "b": math.inf, "c": 40, "d": 20}
    assert table["sequences_to_solve"][["a", "b"]].tolist() == [60 * 100, math.inf]
    text = format_summary(summary)
    assert text["steps"].tolist() == ["40", "never", "40", "20"]
    # All digits; without a batch size they are not known.
    assert text["sequences to solve"].tolist() == ["6000", "never", "-", "74000"]


def test_all_right_is_two_validations_running_without_a_mistake(tmp_path: Path) -> None:
    accuracies = {"a": [0.5, 1, 0.99, 1, 1], "b": [0.5, 0.9, 0.99, 0.99, 1]}
    for model, shares in accuracies.items():
        made(tmp_path / model, model, 10, 0, 0.001, batch_size=32)
        rows = [f"{25 * place},score/accuracy,{share}" for place, share in enumerate(shares)]
        with (tmp_path / model / "metrics.csv").open("a") as file:
            file.write("\n".join(rows) + "\n")
    made(tmp_path / "c", "c", 10, 0, 0.001, batch_size=32)  # of a market without an accuracy
    text = format_summary(summarise(group(load(tmp_path))))
    assert text["sequences to all right"].tolist() == [str(75 * 32), "never", "-"]


def test_where_a_baseline_is_exact_the_next_one_decides_what_is_solved(tmp_path: Path) -> None:
    baselines = {"ar2": 1e-31, "constant": 0.2, "persistence": 0.3}
    for seed, mse in enumerate([0.0199, 0.0201]):
        made(tmp_path / str(seed), "rnn", 10, seed, mse, baselines=baselines)
    made(tmp_path / "x", "gru", 10, 0, 0.001, baselines={"ar2": 0.0})
    solved = summarise(group(load(tmp_path))).set_index("model")["solved"]
    assert solved.to_dict() == {"rnn": "1 of 2", "gru": "-"}


def test_what_is_measured_is_shown_before_and_after_training() -> None:
    assert before_after(".1f", -21.3, 0.5) == "-21.3 -> 0.5"
    assert before_after("g", 5, 5) == "5"
    assert before_after("g", math.nan, math.nan) == "-"
    assert before_after("g", -math.inf, 0) == "-inf -> 0"


def test_only_what_diverged_is_said_to_have(tmp_path: Path) -> None:
    """Not a run that stopped before it was measured again, nor one whose gradient is now 0."""
    made(tmp_path / "a", "a", 10, 0, math.nan, status="diverged")
    made(tmp_path / "b", "b", 10, 0, 0.1)
    made(tmp_path / "c", "c", 10, 0, 0.1, status="interrupted")
    for name, after in (("b", {"answer_zero": True, "verdict": "vanishes"}), ("c", None)):
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        summary["gradient"]["after"] = after or {}
        (tmp_path / name / "summary.json").write_text(json.dumps(summary))
    runs = load(tmp_path)
    assert runs["verdict_after"].tolist() == ["diverged", "vanishes", "-"]
    table = format_summary(summarise(group(runs)))
    assert table["reach"].tolist() == ["5 -> diverged", "5 -> -", "-"]
    assert table["share"].tolist()[:2] == ["-0.5 -> diverged", "-0.5 -> -inf"]
    assert table["gradient"].tolist()[:2] == ["holds -> diverged", "holds -> vanishes"]
    reach = [list(c.cells) for c in runs_table(runs, 200).columns if c.header == "reach"]
    assert reach == [["5 -> diverged", "5 -> -", "5 -> -"]]


@pytest.mark.parametrize("width", [80, 140])
def test_the_columns_chosen_fit_the_screen(width: int, tmp_path: Path) -> None:
    """Each takes its widest text and three more; what is left out would not have fitted."""
    groups = group(load(made_all(tmp_path)))
    table = format_summary(summarise(groups))
    shown = for_screen(table, len(groups.rows), width)
    taken = sum(3 + max(map(len, [name, *shown[name]])) for name in shown)
    assert taken <= width
    assert {"model", "max_days", "last loss", "solved"} <= set(shown)
    left = [name for name in ("skill", "importance", "reach", "span") if name not in shown]
    assert all(3 + max(map(len, [n, *table[n]])) > width - taken for n in left)
    lost = table.assign(status=["1 failed", *table["status"][1:]])
    assert "status" in for_screen(lost, len(groups.rows), width)


def test_the_table_of_a_sweep_has_each_run_on_one_line(tmp_path: Path) -> None:
    """However long the names: rather fewer columns, of which a status that tells something."""
    runs = load(made_all(tmp_path))
    runs["run"] = [f"gated_deltanet_negative-labels=every-seed={n}" for n in range(len(runs))]
    for status, wanted in (("completed", "last loss"), ("failed", "status")):
        console = Console(width=80)
        table = runs_table(runs.assign(status=status), 80)
        with console.capture() as captured:
            console.print(table)
        lines = captured.get().splitlines()
        assert wanted in lines[0]
        assert [line.split()[0] for line in lines[2:]] == runs["run"].tolist()


@pytest.mark.parametrize("width", [80, 100])
def test_names_as_long_as_a_line_leave_room_for_numbers(width: int, tmp_path: Path) -> None:
    """They are folded, and all of each is there."""
    runs = load(made_all(tmp_path)).head(3)
    runs["run"] = [f"rnn_orthogonal-{'clip_norm=null-' * 5}seed={n}" for n in range(3)]
    console = Console(width=width)
    with console.capture() as captured:
        console.print(runs_table(runs, width))
    lines = captured.get().splitlines()
    assert "last loss" in lines[0]
    assert max(map(len, lines)) <= width
    names = "".join(line.split("│")[0].strip() for line in lines[2:])
    assert names == "".join(runs["run"])
    losses = [loss for line in lines[2:] if (loss := line.split("│")[1].strip())]
    assert [float(loss) for loss in losses] == pytest.approx(runs["validation"].tolist(), rel=1e-3)


def test_a_long_table_is_grouped_by_market(tmp_path: Path) -> None:
    for days in (10, 50):
        for model in "abcdefg":
            made(tmp_path / f"{model}{days}", model, days, 0, 0.1)
    summary = summarise(group(load(tmp_path)))
    parts = by_market(format_summary(summary), summary)
    assert list(parts) == ["max_days=10", "max_days=50"]
    for part in parts.values():
        assert part["model"].tolist() == list("abcdefg")
        assert "max_days" not in part
    short = summary[:12]
    assert list(by_market(format_summary(short), short)) == [""]
