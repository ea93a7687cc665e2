"""A run's model, read back from its folder, for a notebook that goes on where the run ended."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from statland.data.base import Market
from statland.models.base import SequenceModel
from statland.records import checkpoint
from statland.records.identity import NAME, parse_identity, read_identity
from statland.settings import SettingError
from statland.training.build import build_model
from statland.training.config import MACHINE, check
from statland.training.resume import check_same_files, take_over


class LoadedRun(NamedTuple):
    """What a run has come to, as far as its newest checkpoint goes."""

    model: SequenceModel  # trained, on the processor, in evaluation mode and the run's dtype
    market: Market
    settings: dict[str, Any]  # those that make the run what it is: model, data, seed, steps, ...
    updates: int  # steps made by then


def load_run(folder: Path | str, trust: str | Sequence[str] = ()) -> LoadedRun:
    """Read a run back from its folder, wherever that is now, ended or in progress.

        run = load_run("runs/2026-07-01/12-00-00.000000-lstm-recall-0")
        x, lengths, y = run.market.validation()[0]
        run.model(x, lengths)                                      # predictions (B, K)

    Reads and writes nothing else, and runs no code from the folder: of a checkpoint weights alone
    are taken. Packages of your own that the run's model or market is from are imported where
    `trust` names them. The state of the random numbers stays as it is.

    Raises SettingError where the folder has no run.json or no checkpoint, where either is damaged,
    where a package is not trusted, and where the market's price files are not those of the run.
    """
    folder = Path(folder)
    if read_identity(folder) is None:
        raise SettingError(f"{folder} has no {NAME}; allowed: the folder of a run")
    state = checkpoint.load(folder)
    if state is None:
        raise SettingError(
            f"{folder} has no checkpoint yet; allowed: a run that has made checkpoint_every steps, "
            f"or all of its steps"
        )
    identity = parse_identity(state["identity"], f"{folder}/{checkpoint.NEWEST}")
    here = dict.fromkeys(MACHINE) | {
        "device": "cpu",
        "threads": 1,
        "runs_dir": str(folder.parent),
        "sweep": folder.name,
        "published": {},
        "trust": [trust] if isinstance(trust, str) else list(trust),
    }
    with torch.random.fork_rng(devices=[]):
        market, model = build_model(check(identity.settings | here), torch.device("cpu"))
    check_same_files(identity.files, market.fingerprint)
    take_over(folder, state, model)
    return LoadedRun(model.eval(), market, identity.settings, state["updates"])
