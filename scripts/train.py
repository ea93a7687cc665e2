"""Fit one model to one market, or a sweep of them: see python scripts/train.py --help."""

import signal

if __name__ == "__main__":  # before imports that take long; a run, once begun, saves on Ctrl-C
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from statland.command.help import help_text
from statland.command.mistakes import errors_in_one_line, hydra_arguments
from statland.command.streams import ignore_broken_pipes


@hydra.main(version_base="1.3", config_path="../configs", config_name="train")
def train(config: DictConfig) -> None:
    """Hand the composed config to the bench."""
    from statland.command.job import main  # here, not above: --help should not wait for torch

    main(config)


if __name__ == "__main__":
    ignore_broken_pipes()
    if {"-h", "--help"}.intersection(sys.argv):
        print(help_text(Path(__file__).parents[1] / "configs", sys.argv[1:]))
    else:
        with errors_in_one_line():
            sys.argv[1:] = hydra_arguments(sys.argv[1:])
            train()
