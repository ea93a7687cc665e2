"""What TensorBoard's HParams shows of a run's settings."""

from typing import Any

from conftest import settings_of

from statland.training.config import hyperparameters

SWEEP = ("model", "data.max_days", "optimizer.lr", "clip_norm", "sweep", "trust")


def shown(model: str, **choices: str) -> dict[str, Any]:
    overrides = (
        f"model={model}",
        "data.max_days=20",
        "optimizer.lr=0.02",
        "clip_norm=0.5",
        "steps=9",
    )
    chosen = {"model": model, "data": "statland", "optimizer": "adam"} | choices
    return hyperparameters(settings_of(*overrides, "sweep=mine"), chosen, SWEEP)


def test_all_models_of_a_sweep_have_the_same_keys() -> None:
    """An initialisation, hidden units and layers are what only some of them have."""
    lstm, tcn = shown("lstm", **{"model/init": "chrono"}), shown("tcn")
    assert list(lstm) == list(tcn)
    same = {"data": "statland", "optimizer": "adam", "days": 20, "learning_rate": 0.02}
    same |= {"batch_size": 32, "seed": 0, "steps": 9, "clip_norm": 0.5}
    assert lstm == {"model": "lstm", "init": "chrono"} | same
    assert tcn == {"model": "tcn", "init": "-"} | same


def test_a_setting_that_a_run_lacks_is_a_dash() -> None:
    settings: Any = {"model": {"a": 1}, "data": {"max_days": 3}, "seed": 0, "steps": 1}
    found = hyperparameters(settings, {"model": "m"}, ["model.a"])
    lacks = ("init", "data", "optimizer", "learning_rate", "batch_size")
    assert {found[name] for name in lacks} == {"-"}
    assert found["model.a"] == 1
