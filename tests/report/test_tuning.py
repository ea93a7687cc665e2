"""Each contestant at its best value of a setting: chosen on half of the seeds, judged on others."""

import math
import re
from pathlib import Path

import pandas as pd
import pytest
from run_folders import made

from statland.report import load
from statland.report.comparison import compare
from statland.report.tuning import tune
from statland.settings import SettingError

# By model and value: the loss on seeds 0 to 2, and on seeds 3 to 5, where another value is best.
LOSSES = {
    ("a", 0.001): (0.3, 0.01),
    ("a", 0.01): (0.1, 0.2),
    ("a", 0.1): (0.2, 0.01),
    ("b", 0.001): (0.1, 0.4),
    ("b", 0.01): (0.2, 0.3),
    ("b", 0.1): (0.01, 0.3),
}


def runs_of(seeds: int = 6) -> pd.DataFrame:
    """The run of b at 0.1 with seed 1 diverged, so that value is not its best."""
    rows = [
        {"model": model, "optimizer.lr": lr, "seed": seed, "validation": losses[seed >= 3]}
        for (model, lr), losses in LOSSES.items()
        for seed in range(seeds)
    ]
    runs = pd.DataFrame(rows).assign(status="completed")
    lost = (runs["model"] == "b") & (runs["optimizer.lr"] == 0.1) & (runs["seed"] == 1)
    runs.loc[lost, ["status", "validation"]] = "diverged", math.nan
    return runs.sample(frac=1, random_state=0)


def test_the_value_is_chosen_on_the_first_seeds_and_judged_on_the_others() -> None:
    kept, facts = tune(runs_of(), "optimizer.lr")
    assert kept.groupby("model")["optimizer.lr"].unique().map(list).to_dict() == {
        "a": [0.01],
        "b": [0.001],
    }
    assert {model: sorted(own["seed"]) for model, own in kept.groupby("model")} == {
        "a": [3, 4, 5],
        "b": [3, 4, 5],
    }
    assert "was chosen on seeds 0, 1, 2 and is judged on seeds 3, 4, 5" in facts[0]
    assert {"a 0.01", "b 0.001"} == set(facts[0].split(": ")[1].split("; "))
    assert facts[1] == "the best optimizer.lr lies at the edge of its grid for: b"


def test_six_seeds_and_two_values_are_needed() -> None:
    for runs, key, message in (
        (runs_of(5), "optimizer.lr", "with 3 values and 5 seeds; allowed: .* with 6 seeds or more"),
        (runs_of().assign(clip_norm=1.0), "clip_norm", "with 1 values and 6 seeds; allowed: .*"),
        (runs_of(), "lr", "--tune is 'lr'; allowed: .*"),
    ):
        with pytest.raises(SettingError) as refused:
            tune(runs, key)
        assert re.search(message, str(refused.value))


def test_a_setting_may_be_a_word() -> None:
    runs = runs_of().assign(optimizer="adam")
    other = runs.assign(optimizer="sgd", validation=runs["validation"] + 1)
    facts = tune(pd.concat([runs, other], ignore_index=True), "optimizer").facts
    assert len(facts) == 1  # words have no edge
    assert "adam" in facts[0]


def test_the_verdict_is_on_the_runs_that_were_kept(tmp_path: Path) -> None:
    for model, best in (("a", 0.001), ("b", 0.02)):
        for size in (4, 8):
            for seed in range(6):
                mse = (best if size == 8 else 0.2) * (1 + 0.01 * seed)
                made(tmp_path / f"{model}{size}{seed}", model, 10, seed, mse, hidden_size=size)
    comparison = compare(load(tmp_path), tuned="model.hidden_size")
    assert comparison.summary["n"].tolist() == [3, 3]
    (verdict,) = comparison.verdicts
    assert "a wins: a leads b by " in verdict.sentence.replace(" hidden_size=8", "")
    assert "over 3 seeds" in verdict.sentence
    assert any("is judged on seeds 3, 4, 5" in fact for fact in comparison.facts)
