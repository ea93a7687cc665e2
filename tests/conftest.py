"""Every model, initialisation and market of configs/, composed as train.py composes them."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from statland.command.compose import plain
from statland.models.base import RecurrentModel, SequenceModel
from statland.records import checkpoint
from statland.settings import SettingError, flatten
from statland.training.build import Built, build
from statland.training.config import Settings, check
from statland.training.run import execute, prepare
from statland.training.watch import GradientWatch

ROOT = Path(__file__).parents[1]
MODELS = sorted(path.stem for path in (ROOT / "configs/model").glob("*.yaml"))
MARKETS = sorted(path.stem for path in (ROOT / "configs/data").glob("*.yaml"))
INITS = sorted(path.stem for path in (ROOT / "configs/model/init").glob("*.yaml"))
OPTIMIZERS = sorted(path.stem for path in (ROOT / "configs/optimizer").glob("*.yaml"))

# The models and the market of tests/two_files.
OWN = f"hydra.searchpath=[file://{ROOT / 'tests/two_files/configs'}]"

# One yaml file for each class: the others set another initialisation or nonlinearity of it.
FAMILIES = [n for n in MODELS if "_target_" in (ROOT / f"configs/model/{n}.yaml").read_text()]

# Each class and each market at least once: all pairs of them would take too long.
PAIRS = [
    (FAMILIES[place % len(FAMILIES)], MARKETS[place % len(MARKETS)])
    for place in range(max(len(FAMILIES), len(MARKETS)))
]


def composed(*overrides: str) -> dict[str, Any]:
    """The config of train.py with these overrides, resolved."""
    return copy.deepcopy(_composed(overrides))


@cache
def _composed(overrides: tuple[str, ...]) -> dict[str, Any]:
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
    varied = [override.split("=")[0].lstrip("+~") for override in overrides]
    prepared = prepare(settings_of(*overrides), choices_of(overrides), varied)
    return execute(prepared, folder, resume=resume)


def is_uniform(places: Tensor, first: int, last: int) -> bool:
    """Whether counts of places lie within five deviations of a uniform draw from first to last."""
    assert (places.min(), places.max()) == (first, last)
    share = 1 / (last - first + 1)
    shares = places.bincount(minlength=last + 1)[first:].double() / len(places)
    return bool((shares - share).abs().max() < 5 * (share * (1 - share) / len(places)) ** 0.5)


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder; TensorBoard's by what they hold alone."""
    named = {p: str(p) for p in sorted(folder.rglob("*")) if p.is_file()}
    return {name.partition("tfevents")[0]: p.read_bytes() for p, name in named.items()}


def rows_of(folder: Path) -> list[str]:
    """The rows of metrics.csv, but for the speed, which no two runs share."""
    rows = (folder / "metrics.csv").read_text().splitlines()
    return [row for row in rows if ",speed/" not in row]


def curves_of(folder: Path) -> dict[str, dict[int, str]]:
    """TensorBoard's last value by tag and step; of the speed the steps alone."""
    board = EventAccumulator(str(folder), {"scalars": 0}).Reload()
    return {
        tag: {s.step: "" if tag.startswith("speed/") else repr(s.value) for s in board.Scalars(tag)}
        for tag in board.Tags()["scalars"]
    }


def same_weights(a: Path, b: Path) -> None:
    """Weights and the optimizer's state, bit for bit."""
    states = [checkpoint.load(folder) for folder in (a, b)]
    assert states[0]["updates"] == states[1]["updates"]
    for name, weight in states[0]["model"].items():
        assert torch.equal(weight, states[1]["model"][name])
    for one, other in zip(*(s["optimizer"]["state"].values() for s in states), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


def same_run(a: Path, b: Path) -> None:
    """Weights, optimizer, metrics (speed apart), flow and TensorBoard's values, bit for bit."""
    same_weights(a, b)
    assert rows_of(a) == rows_of(b)
    assert (a / "gradient_flow.csv").read_bytes() == (b / "gradient_flow.csv").read_bytes()
    assert curves_of(a) == curves_of(b)


def extends(extended: Path, whole: Path) -> None:
    """An extended run equals an uninterrupted one, and has rows of its former end beside."""
    same_weights(extended, whole)
    assert set(rows_of(whole)) <= set(rows_of(extended))
    assert len(set(rows_of(extended))) == len(rows_of(extended))
    flow = [(folder / "gradient_flow.csv").read_bytes() for folder in (extended, whole)]
    assert flow[0] == flow[1]
    ours, theirs = curves_of(extended), curves_of(whole)
    assert all(ours[tag].items() >= curve.items() for tag, curve in theirs.items())


@pytest.fixture(params=FAMILIES)
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
    if not isinstance(model, RecurrentModel):
        pytest.skip("has no state")
    return model


@pytest.fixture(params=MARKETS)
def market_name(request: pytest.FixtureRequest) -> str:
    return request.param


DRAW = GradientWatch._draw


@pytest.fixture(autouse=True, scope="session")
def _no_pictures() -> None:
    """Leave the pictures out of all runs: they take most of a short one."""
    GradientWatch._draw = lambda *_: None


@contextmanager
def drawing() -> Iterator[None]:
    """Let runs draw their pictures."""
    GradientWatch._draw = DRAW
    yield
    GradientWatch._draw = lambda *_: None


@pytest.fixture
def pictures() -> Iterator[None]:
    """Let the runs of a test draw their pictures."""
    with drawing():
        yield


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
