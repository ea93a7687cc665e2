"""Everything that a run needs before anything of it is written."""

from collections.abc import Mapping
from typing import NamedTuple

import torch

from statland.records.identity import Identity
from statland.records.summary import finite_json
from statland.training.build import Built, build
from statland.training.config import Settings, without_machine
from statland.training.device import device_of, prepare_process


class Prepared(NamedTuple):
    """A run that can begin: nothing of it has been written yet."""

    settings: Settings
    identity: Identity
    built: Built


def prepare(settings: Settings, choices: Mapping[str, str]) -> Prepared:
    """Seed, and build what the settings name. Raises SettingError where that cannot be."""
    prepare_process(settings["threads"])
    torch.manual_seed(settings["seed"])
    built = build(settings, device_of(settings["device"]))
    plain = finite_json(without_machine(settings))
    return Prepared(settings, Identity(plain, dict(built.market.fingerprint), dict(choices)), built)
