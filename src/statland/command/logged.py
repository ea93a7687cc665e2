"""A run with what stands beside its records: a log, and a copy of its config for people to read."""

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from rich.console import Console

from statland.command.compose import overrides_of_job
from statland.records.identity import NAME
from statland.records.lock import held
from statland.training.run import Prepared, execute
from statland.training.stopping import Interrupted, raise_interrupted, signals_to


def execute_logged(
    prepared: Prepared, folder: Path, console: Console | None = None, resume: bool = False
) -> dict[str, Any]:
    """Train what has been prepared, with a copy of its config for people to read, and a log.

    Where a signal comes before the run begins, both are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with signals_to(raise_interrupted), held(folder), logging_to(folder):
            write_copies(folder, prepared.settings)
            return execute(prepared, folder, console, resume)
    except Interrupted:
        if not (folder / NAME).exists():
            shutil.rmtree(folder / ".hydra", ignore_errors=True)
            (folder / "train.log").unlink(missing_ok=True)
        raise


def write_copies(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write .hydra/: the composed config, the arguments, and what Hydra was set to."""
    copies = folder / ".hydra"
    copies.mkdir(exist_ok=True)
    texts = {
        "config": yaml.safe_dump(dict(settings), sort_keys=False),
        "overrides": yaml.safe_dump(overrides_of_job()),
        "hydra": OmegaConf.to_yaml(OmegaConf.create({"hydra": HydraConfig.get()})),
    }
    for name, text in texts.items():
        path = copies / f"{name}.yaml"
        if name == "config" or not path.exists():  # the run's own arguments, not those of resume=
            path.write_text(text, encoding="utf-8")


@contextmanager
def logging_to(folder: Path) -> Iterator[None]:
    """Let what is logged meanwhile go to train.log of a run folder."""
    handler = logging.FileHandler(folder / "train.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(min(level, logging.INFO))
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
