"""Fit one model to one market, or a sweep of them: see python scripts/train.py --help."""

import hydra
from omegaconf import DictConfig

from statland.command.guard import guard_hydra
from statland.command.help import register_help
from statland.command.mistakes import errors_in_one_line
from statland.command.streams import steady_streams


@hydra.main(version_base="1.3", config_path="../configs", config_name="train")
def train(config: DictConfig) -> None:
    """Hand the composed config to the bench."""
    from statland.command.job import main  # here, not above: --help should not wait for torch

    main(config)


if __name__ == "__main__":
    steady_streams()
    register_help()
    guard_hydra()
    with errors_in_one_line():
        train()
