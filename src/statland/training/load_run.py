"""A run's model, read back from its folder, for a notebook that continues where the run ended."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from statland.data.base import Market
from statland.models.base import SequenceModel
from statland.records import checkpoint
from statland.records.identity import NAME, read_identity
from statland.settings import SettingError
from statland.training.build import build_model


class LoadedRun(NamedTuple):
    """What a run has come to, as far as its checkpoint goes."""

    model: SequenceModel  # trained, on the processor, in evaluation mode and the run's dtype
    market: Market
    settings: dict[str, Any]  # those that make the run what it is: model, data, seed, steps, ...
    updates: int  # steps made by then


def load_run(folder: Path | str, trust: str | Sequence[str] = ()) -> LoadedRun:
    """Read a run back from its folder, wherever that is now, ended or in progress.

        run = load_run("runs/2026-07-01/12-00-00.000000-lstm-recall-0")
        x, lengths, y = run.market.validation()[0]
        run.model(x, lengths)                                      # predictions (B, K)

    Runs no code from the folder, and leaves the state of the random numbers as it is. Your own
    packages, if the run's model or market is from one, are imported only if `trust` names them.

    Raises SettingError if the folder has no run.json or no checkpoint, if either is damaged, if a
    package is not trusted, and if the market's price files are not those of the run.
    """
    folder = Path(folder)
    identity, state = read_identity(folder), checkpoint.load(folder)
    if identity is None:
        raise SettingError(f"{folder} has no {NAME}; allowed: the folder of a run")
    if state is None:
        raise SettingError(f"{folder} has no checkpoint yet; allowed: a run that has made one")
    # Of the machine's settings nothing else is read.
    settings: Any = identity.settings | {"trust": [trust] if isinstance(trust, str) else trust}
    with torch.random.fork_rng(devices=[]):
        market, model = build_model(settings, torch.device("cpu"))
    if difference := identity._replace(files=dict(market.fingerprint)).difference(identity):
        raise SettingError(f"{folder}: {difference}; allowed: the same files")
    checkpoint.load_into(folder, state, model)
    return LoadedRun(model.eval(), market, identity.settings, state["updates"])
