"""Every model, initialisation and market of configs/, composed as train.py composes them."""

import copy
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from statland.command.compose import plain
from statland.models.base import RecurrentModel, SequenceModel
from statland.records import checkpoint
from statland.settings import SettingError, flatten
from statland.training.build import Built, build
from statland.training.config import Settings, check
from statland.training.run import run

ROOT = Path(__file__).parents[1]
MODELS = sorted(path.stem for path in (ROOT / "configs/model").glob("*.yaml"))
MARKETS = sorted(path.stem for path in (ROOT / "configs/data").glob("*.yaml"))
INITS = sorted(path.stem for path in (ROOT / "configs/model/init").glob("*.yaml"))
OPTIMIZERS = sorted(path.stem for path in (ROOT / "configs/optimizer").glob("*.yaml"))

# Each model and each market at least once: all pairs of them would take too long.
PAIRS = [
    (MODELS[place % len(MODELS)], MARKETS[place % len(MARKETS)])
    for place in range(max(len(MODELS), len(MARKETS)))
]


def composed(*overrides: str) -> dict[str, Any]:
    """The config of train.py with these overrides, resolved."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return plain(compose("train", list(overrides)))


def settings_of(*overrides: str) -> Settings:
    return check(composed(*overrides))


def built(*overrides: str) -> Built:
    settings = settings_of(*overrides)
    torch.manual_seed(settings["seed"])
    return build(settings, torch.device("cpu"))


def refusal(*overrides: str) -> str:
    """What is said of settings that cannot be."""
    with pytest.raises(SettingError) as refused:
        built(*overrides)
    return str(refused.value)


def applicable(choice: str, *overrides: str) -> tuple[str, ...]:
    """A choice, such as model=lstm, and those of the overrides whose key it has."""
    keys = _keys(choice)
    return choice, *(override for override in overrides if override.split("=")[0] in keys)


@cache
def _keys(choice: str) -> frozenset[str]:
    return frozenset(flatten(composed(choice)))


def choices_of(overrides: tuple[str, ...]) -> Mapping[str, str]:
    chosen = {"model": "rnn_cell", "model/init": "default", "data": "statland", "optimizer": "adam"}
    pairs = (override.split("=", 1) for override in overrides if "=" in override)
    return chosen | {key: value for key, value in pairs if key in chosen}


def ran(folder: Path, *overrides: str, resume: bool = False) -> dict[str, Any]:
    """One run in this process, its folder `folder`; what summary.json holds."""
    return run(settings_of(*overrides), folder, choices_of(overrides), resume=resume)


def same_run(a: Path, b: Path) -> None:
    """Weights, optimizer, metrics (speed apart), flow and TensorBoard: bit for bit."""
    rows = [
        [row for row in (f / "metrics.csv").read_text().splitlines() if ",speed/" not in row]
        for f in (a, b)
    ]
    assert rows[0] == rows[1]
    assert (a / "gradient_flow.csv").read_bytes() == (b / "gradient_flow.csv").read_bytes()
    states = [checkpoint.load(f) for f in (a, b)]
    assert states[0]["updates"] == states[1]["updates"]
    for name, weight in states[0]["model"].items():
        assert torch.equal(weight, states[1]["model"][name])
    for one, other in zip(*(s["optimizer"]["state"].values() for s in states), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
    boards = [EventAccumulator(str(f), {"scalars": 0}).Reload() for f in (a, b)]
    assert boards[0].Tags()["scalars"] == boards[1].Tags()["scalars"]
    for tag in boards[0].Tags()["scalars"]:
        curves = [[(s.step, s.value) for s in board.Scalars(tag)] for board in boards]
        if tag.startswith("speed/"):
            curves = [[step for step, _ in curve] for curve in curves]
        assert repr(curves[0]) == repr(curves[1])


@pytest.fixture(params=MODELS)
def model_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(model_name: str) -> SequenceModel:
    """Each model, in float64 and without dropout: small, and of several layers if it can be."""
    return copy.deepcopy(_small(model_name))


@cache
def _small(model_name: str) -> SequenceModel:
    small = applicable(
        f"model={model_name}", "model.hidden_size=6", "model.num_layers=2", "model.num_heads=3"
    )
    return built(*small).model.double().eval()


@pytest.fixture
def recurrent(model: SequenceModel) -> RecurrentModel:
    """Each model that has a state."""
    if not isinstance(model, RecurrentModel):
        pytest.skip("has no state")
    return model


@pytest.fixture(params=MARKETS)
def market_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
