"""Every model, initialisation and market of configs/, composed as train.py composes them."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from statland.build import build, check
from statland.data.base import Market
from statland.models.base import RecurrentModel
from statland.run import run

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
