"""Every model, initialisation and market of configs/, composed as train.py composes them."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from statland.data.base import Market
from statland.models.base import RecurrentModel
from statland.records import checkpoint
from statland.training.build import build, check
from statland.training.run import run

ROOT = Path(__file__).parents[1]
MODELS = sorted(path.stem for path in (ROOT / "configs/model").glob("*.yaml"))
MARKETS = sorted(path.stem for path in (ROOT / "configs/data").glob("*.yaml"))
INITS = sorted(path.stem for path in (ROOT / "configs/model/init").glob("*.yaml"))
OPTIMIZERS = sorted(path.stem for path in (ROOT / "configs/optimizer").glob("*.yaml"))


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", list(overrides))


def built(*overrides: str) -> tuple[Market, RecurrentModel, torch.optim.Optimizer]:
    config = composed(*overrides)
    torch.manual_seed(check(config)["seed"])
    return build(config, torch.device("cpu"))


def ran(folder: Path, *overrides: str) -> dict:
    """One run in this process, its folder `folder`; what summary.json holds."""
    chosen = {"model": "rnn_cell", "model/init": "default", "data": "statland", "optimizer": "adam"}
    pairs = (override.split("=", 1) for override in overrides if "=" in override)
    chosen |= {key: value for key, value in pairs if key in chosen}
    return run(composed(*overrides), folder, chosen)


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


@pytest.fixture(params=MARKETS)
def market_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
