"""From a config to the objects that it names, or one clear line on why it cannot be."""

import inspect
import os
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from statland.data.base import Market
from statland.models.base import SequenceModel
from statland.settings import SettingError, choice, number, whole

GROUPS = {"model", "data", "optimizer"}
KEYS = GROUPS | {
    "seed",
    "steps",
    "clip_norm",
    "log_every",
    "validate_every",
    "probe_every",
    "device",
    "dtype",
    "threads",
    "runs_dir",
    "sweep",
    "checkpoint_every",
    "resume",
}

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def check(config: DictConfig) -> dict[str, Any]:
    """The config as plain values, the run-wide ones checked."""
    try:
        settings = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise SettingError(str(error).splitlines()[0]) from error
    if unknown := set(settings) - KEYS:
        raise SettingError(f"{min(unknown)} is no setting; allowed: {', '.join(sorted(KEYS))}")
    if missing := KEYS - set(settings):
        raise SettingError(f"{min(missing)} is missing")
    whole("seed", settings["seed"], 0, 2**63 - 1)
    whole("steps", settings["steps"], 0)
    whole("log_every", settings["log_every"], 1)
    whole("validate_every", settings["validate_every"], 1)
    for key in ("probe_every", "checkpoint_every"):
        if settings[key] is not None:
            whole(key, settings[key], 1)
    whole("threads", settings["threads"], 1, max(os.cpu_count() or 1, 64))
    choice("device", settings["device"], ("auto", "cpu", "cuda", "mps"))
    choice("dtype", settings["dtype"], DTYPES)
    for key in ("runs_dir", "sweep"):
        if not isinstance(settings[key], str) or not settings[key].strip():
            raise SettingError(f"{key} is {settings[key]!r}; allowed: a folder")
    if settings["clip_norm"] is not None:
        number("clip_norm", settings["clip_norm"], above=0)
    return settings


def prepare_process(threads: int) -> None:
    """Set what holds for the whole process, for speed alone.

    A vanishing gradient spends its days among subnormal numbers, below 1e-38, on which a processor
    is some hundred times slower. They count as 0 instead.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


def device_of(name: str) -> torch.device:
    """The device of that name; auto is the fastest that there is."""
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(device for device, is_there in there.items() if is_there))
    if not there[name]:
        allowed = ", ".join(["auto", *(device for device, is_there in there.items() if is_there)])
        raise SettingError(f"device is {name!r}, which is not here; allowed: {allowed}")
    return torch.device(name)


def build(
    config: DictConfig, device: torch.device
) -> tuple[Market, SequenceModel, torch.optim.Optimizer]:
    """The market, the model and the optimizer that the config names."""
    for group in GROUPS:
        if not isinstance(config[group], DictConfig):
            raise SettingError(f"{group} is {config[group]!r}; allowed: a choice of {group}=")
    market = _instantiate("data", config.data, seed=config.seed)
    sizes = {"input_size": market.input_size, "output_size": market.output_size}
    model = _instantiate("model", config.model, **sizes)
    if device.type == "mps" and config.dtype == "float64":
        raise SettingError("dtype is 'float64', which device=mps has not; allowed: float32")
    model = model.to(device, DTYPES[config.dtype])
    return market, model, _optimizer(config.optimizer, model)


def _optimizer(config: DictConfig, model: SequenceModel) -> torch.optim.Optimizer:
    """The optimizer, without what only torch.compile needs.

    Nothing is compiled here, yet making and stepping an optimizer would import torch._dynamo, which
    takes as long as torch itself, and tell it at every step to look away.
    """
    for key, value in config.items():
        if key != "_target_" and not isinstance(value, bool):
            number(f"optimizer.{key}", value)
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        plain = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
        if plain is not None:
            plain.__dynamo_disable = plain
    optimizer = _instantiate("optimizer", config, params=list(model.parameters()))
    step = torch.no_grad()(inspect.unwrap(type(optimizer).step))
    optimizer.step = step.__get__(optimizer)
    return optimizer


def _instantiate(group: str, config: DictConfig, **given: Any) -> Any:
    """Build what `config` names; whatever its constructor refuses is a SettingError."""
    _check_target(group, config, set(given))
    try:
        return instantiate(config, **given, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, SettingError):
            raise cause from None
        if isinstance(cause, ValueError | TypeError | RuntimeError | MemoryError):
            reason = (str(cause).splitlines() or [type(cause).__name__])[0]
            raise SettingError(f"{group}: {reason}") from error
        raise


def _check_target(key: str, config: DictConfig, given: set[str] = frozenset()) -> None:
    """Refuse, before it is imported, what is not ours to build; and settings that it has not.

    What is `given` by the bench is no setting.
    """
    target = str(config.get("_target_"))
    if not target.startswith(("statland.", "torch.optim.")):
        raise SettingError(f"{key}._target_ is {target}; allowed: statland.* and torch.optim.*")
    try:
        parameters = set(inspect.signature(get_object(target)).parameters) - given
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise SettingError(f"{key}._target_ is {target}, which is not there") from error
    for name, value in config.items():
        if not name.startswith("_") and name not in parameters:
            has = ", ".join(k for k in config if k in parameters) or "none"
            raise SettingError(f"{key}.{name} is no setting of {target}; allowed: {has}")
        if isinstance(value, DictConfig):
            _check_target(f"{key}.{name}", value)
