"""Runs, their settings as columns, and which of them belong together."""

import re
from pathlib import Path

import pandas as pd
import pytest
from run_folders import LOSSES, made, made_all

from statland.records.summary import read_summary, write_summary
from statland.report import load
from statland.report.comparison import compare, figures
from statland.report.groups import constants, group, label, meeting, varying
from statland.settings import SettingError


def test_one_row_per_run_with_its_settings_as_columns(tmp_path: Path) -> None:
    runs = load(made_all(tmp_path))
    assert len(runs) == 12
    assert runs.attrs["skipped"] == []
    row = runs[(runs.model == "lstm") & (runs["data.max_days"] == 10) & (runs.seed == 1)].iloc[0]
    assert row["validation"] == 0.002
    assert row["model.hidden_size"] == 32
    assert row["solved"]
    assert row["steps_to_solve"] == 50
    assert row["steps_per_second"] == 20
    assert row["parameters"] == 64
    assert (row["baseline/constant"], row["baseline/persistence"]) == (0.25, 0.5)
    assert (row["reach_before"], row["reach_after"], row["span"]) == (5, 3, 9)
    assert (row["share_before"], row["importance_after"], row["verdict_after"]) == (
        -0.5,
        0.9,
        "holds",
    )
    assert load(*(tmp_path.iterdir())).equals(runs)


@pytest.mark.parametrize(("layers", "differs"), [(1, False), (2, True), (True, True)])
def test_a_run_of_before_there_was_a_setting_has_its_neutral_value(
    layers: int, differs: bool, tmp_path: Path
) -> None:
    for seed in range(2):
        made(tmp_path / str(seed), "rnn", 10, seed, 0.1)
    summary = read_summary(tmp_path / "1")
    summary["config"]["model"]["num_layers"] = layers
    write_summary(tmp_path / "1", summary)
    assert ("model.num_layers" in varying(load(tmp_path))) == differs
    assert load(tmp_path)["model.num_layers"].isna().any() == differs


def test_the_settings_that_distinguish_runs_are_columns_and_markets(tmp_path: Path) -> None:
    runs = load(made_all(tmp_path))
    # min_days and init.gain follow from max_days.
    assert varying(runs) == ["model", "data.max_days"]
    same = constants(runs)
    assert same["model.hidden_size"] == 32
    assert same["data"] == "recall"
    assert not {"seed", "model"} & set(same)
    runs = group(runs).runs
    assert set(runs["market"]) == {"max_days=10", "max_days=50"}
    assert set(runs["contestant"]) == {"rnn", "lstm"}
    assert runs["counts"].all()


def test_settings_that_change_together_are_not_compared_over_markets(tmp_path: Path) -> None:
    """lstm was trained on one market and rnn on another."""
    for seed in range(3):
        made(tmp_path / f"a{seed}", "lstm", 10, seed, 0.01)
        made(tmp_path / f"b{seed}", "rnn", 50, seed, 0.2)
    comparison = compare(load(tmp_path))
    assert comparison.groups.rows == ["model", "data.max_days"]
    assert comparison.verdicts == []


def test_runs_measured_by_the_reach_of_old_still_load(tmp_path: Path) -> None:
    old = {"verdict": "vanishes", "reach_days": 9, "reach_inputs_days": 4, "first_to_last": -3.0}
    old |= {"theory_decay_per_day": -0.3, "lyapunov": [-0.2]}
    for seed, model in enumerate(("rnn", "lstm")):
        made(tmp_path / model, model, 10, seed, 0.1, gradient={"before": old, "after": old})
    runs = load(tmp_path)
    assert runs.attrs["skipped"] == []
    for when in ("before", "after"):
        assert runs[f"verdict_{when}"].tolist() == ["-", "-"]
        assert runs[[f"{n}_{when}" for n in ("share", "importance", "reach")]].isna().all(axis=None)
        assert runs[f"theory_{when}"].tolist() == [-0.3, -0.3]
    comparison = compare(runs)
    assert comparison.forecast is None
    assert "strips" in figures(comparison.groups)


def test_by_chooses_the_rows_and_pools_the_rest(tmp_path: Path) -> None:
    """A verdict is on one market whatever the rows; losses of a seed are averaged over sizes.

    A setting that has no value in some runs is pooled as well.
    """
    for scale, size in ((4, 4), (8, None)):
        for (model, days), losses in LOSSES.items():
            for seed, mse in enumerate(losses):
                folder = tmp_path / f"{model}{days}{seed}{size}"
                made(folder, model, days, seed, mse * scale, hidden_size=size)
    runs = load(tmp_path)
    assert compare(runs).groups.rows == ["model", "data.max_days", "model.hidden_size"]
    comparison = compare(runs, by=["model"])
    assert comparison.groups.pooled == ["data.max_days", "model.hidden_size"]
    assert "a row is over several values of: data.max_days, model.hidden_size" in comparison.facts
    assert comparison.summary.set_index("model")["n"].to_dict() == {"rnn": 12, "lstm": 12}
    easy, hard = (verdict.sentence for verdict in comparison.verdicts)
    assert easy.startswith("max_days=10: ")
    assert f"lstm leads rnn by {0.02 * 6:.3g} " in easy
    assert "over 3 seeds" in easy
    assert hard.startswith("max_days=50: nothing")


def test_where_chooses_the_runs(tmp_path: Path) -> None:
    runs = load(made_all(tmp_path))
    chosen = meeting(runs, ["data.max_days=50", "model=rnn"])
    assert sorted(chosen["validation"]) == sorted(LOSSES["rnn", 50])
    # As floats, which a column becomes where some run lacks the key.
    floats = runs.assign(**{"data.max_days": runs["data.max_days"].astype(float)})
    assert len(meeting(floats, ["data.max_days=50"])) == 6
    assert len(meeting(runs, ["seed=1"])) == 4
    assert len(meeting(runs, ["data.path=null"])) == 12


def test_an_unknown_key_or_value_is_refused_in_one_line(tmp_path: Path) -> None:
    runs = load(made_all(tmp_path))
    for by, where, message in (
        (["modle"], [], "--by is 'modle'; allowed: model, data, .*; did you mean model\\?"),
        (["run"], [], "--by is 'run'; allowed: .*"),
        ([], ["days=3"], "--where is 'days'; allowed: model, .*, seed"),
        ([], ["model"], "--where is 'model'; allowed: KEY=VALUE"),
        ([], ["model=gru"], "model is 'gru'; allowed: lstm, rnn"),
        ([], ["data.max_days=7"], "data.max_days is '7'; allowed: 10, 50"),
    ):
        with pytest.raises(SettingError) as refused:
            compare(runs, by, where)
        assert re.fullmatch(message, str(refused.value))


def test_a_setting_without_a_value_is_not_named(tmp_path: Path) -> None:
    row = {"model": "lstm", "data.path": None, "init.gain": float("nan"), "data.max_days": 5.0}
    assert label(row, "all") == "lstm max_days=5"
    assert label({}, "all") == "all"
    for model in ("a", "b"):
        for path in (None, "/prices"):
            made(tmp_path / f"{model}{path is None}", model, 10, 0, 0.1, path=path)
    comparison = compare(load(tmp_path))
    names = [verdict.sentence.split(":")[0] for verdict in comparison.verdicts]
    assert sorted(names) == ["no data.path", "path=/prices"]
    assert pd.isna(comparison.summary["data.path"]).sum() == 2
