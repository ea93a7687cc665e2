"""From a config to the objects that it names, or one clear line on why it cannot be."""

import inspect
import math
import os
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from statland.data.base import Market
from statland.models.base import RecurrentModel, SequenceModel
from statland.settings import SettingError, choice, did_you_mean, number, whole

GROUPS = ("model", "data", "optimizer")
KEYS = {
    *GROUPS,
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

# What torch.optim has that cannot fit these models.
UNFIT = {
    "torch.optim.LBFGS": "needs a function that computes the loss again",
    "torch.optim.SparseAdam": "takes sparse gradients only",
    "torch.optim.Muon": "takes matrices only",
}


def check(config: DictConfig) -> dict[str, Any]:
    """The config as plain values, the run-wide ones checked."""
    try:
        settings = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise SettingError(str(error).splitlines()[0]) from error
    for key in settings:
        if key not in KEYS:
            allowed = f"{', '.join(sorted(KEYS))}{did_you_mean(key, KEYS)}"
            raise SettingError(f"{key} is no setting; allowed: {allowed}")
    if missing := KEYS - set(settings):
        raise SettingError(f"{min(missing)} is missing")
    whole("seed", settings["seed"], 0, 2**63 - 1)
    whole("steps", settings["steps"], 0, 10**15)
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
    for group in (*GROUPS, "model.init"):
        value = OmegaConf.select(config, group)
        if not isinstance(value, DictConfig):
            choose = group.replace(".", "/")
            raise SettingError(f"{group} is {value!r}; allowed: a choice of {choose}=")
    market = _instantiate("data", config.data, Market, seed=config.seed)
    sizes = {"input_size": market.input_size, "output_size": market.output_size}
    model = _instantiate("model", config.model, RecurrentModel, **sizes)
    if device.type == "mps" and config.dtype == "float64":
        raise SettingError("dtype is 'float64', which device=mps has not; allowed: float32")
    model = model.to(device, DTYPES[config.dtype])
    return market, model, _optimizer(config.optimizer, model)


def _optimizer(config: DictConfig, model: SequenceModel) -> torch.optim.Optimizer:
    """The optimizer, without what only torch.compile needs.

    Nothing is compiled here, yet making and stepping an optimizer would import torch._dynamo, which
    takes as long as torch itself, and tell it at every step to look away.
    """
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        plain = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
        if plain is not None:
            plain.__dynamo_disable = plain
    _check_optimizer(config)
    params = list(model.parameters())
    optimizer = _instantiate("optimizer", config, torch.optim.Optimizer, params=params)
    step = torch.no_grad()(inspect.unwrap(type(optimizer).step))
    optimizer.step = step.__get__(optimizer)
    return optimizer


def _check_optimizer(config: DictConfig) -> None:
    """Refuse what torch would refuse later, or in words that name no setting."""
    target = str(config.get("_target_"))
    if target in UNFIT:
        raise SettingError(
            f"optimizer._target_ is {target}, which {UNFIT[target]}; allowed: the others of "
            f"torch.optim"
        )
    without = {"params", "capturable", "differentiable"}
    _check_target("optimizer", config, torch.optim.Optimizer, without)
    for name, parameter in inspect.signature(get_object(target)).parameters.items():
        key, value, usual = f"optimizer.{name}", config.get(name), parameter.default
        if name not in config:
            continue
        if usual is None or isinstance(usual, bool):
            if not isinstance(value, bool) and not (usual is None and value is None):
                raise SettingError(f"{key} is {value!r}; allowed: true, false")
        elif isinstance(usual, tuple):
            items = value if isinstance(value, ListConfig) else []
            if len(items) != len(usual):
                raise SettingError(f"{key} is {value!r}; allowed: [{len(usual)} numbers]")
            for item in items:
                number(key, item, 0, below=1 if name == "betas" else None)
        else:
            number(key, value, 0 if usual >= 0 else -math.inf)


def _instantiate(group: str, config: DictConfig, kind: type, **given: Any) -> Any:
    """Build what `config` names, a `kind`; whatever its constructor refuses is a SettingError."""
    _check_target(group, config, kind, set(given))
    try:
        return instantiate(config, **given, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, SettingError):
            raise cause from None
        if isinstance(cause, ValueError | TypeError | RuntimeError | MemoryError | OverflowError):
            reason = (str(cause).splitlines() or [type(cause).__name__])[0]
            raise SettingError(f"{group}: {reason}") from error
        raise


def _check_target(key: str, config: DictConfig, kind: type | None, given: set[str]) -> None:
    """Refuse, before it is imported, what is not ours to build; settings it has not, or lacks.

    `kind` is what it has to be, None for an initialisation; what is `given` by the bench is no
    setting.
    """
    target = str(config.get("_target_"))
    if not target.startswith(("statland.", "torch.optim.")):
        raise SettingError(f"{key}._target_ is {target}; allowed: statland.* and torch.optim.*")
    try:
        built = get_object(target)
        parameters = dict(inspect.signature(built).parameters)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise SettingError(
            f"{key}._target_ is {target}, which is not there; allowed: what {key}= names"
            f"{_nearest_target(target)}"
        ) from error
    if kind is not None and not (isinstance(built, type) and issubclass(built, kind)):
        raise SettingError(f"{key}._target_ is {target}; allowed: a {kind.__name__}")
    settings = [name for name in parameters if name not in given]
    for name, value in config.items():
        if name == "_target_" or (name == "_partial_" and kind is None and value is True):
            continue
        if name not in settings:
            has = ", ".join(name for name in config if name in settings) or "none"
            raise SettingError(
                f"{key}.{name} is no setting of {target}; allowed: {has}"
                f"{did_you_mean(name, settings)}"
            )
        if isinstance(value, DictConfig):
            _check_target(f"{key}.{name}", value, None, {"model"})
    for name in settings:
        if parameters[name].default is inspect.Parameter.empty and name not in config:
            raise SettingError(f"{key}.{name} is missing; allowed: {key}.{name}=VALUE")


def _nearest_target(target: str) -> str:
    module, _, name = target.rpartition(".")
    try:
        names = [known for known in dir(get_object(module)) if not known.startswith("_")]
    except (ImportError, AttributeError, ValueError):
        return ""
    return did_you_mean(name, names)
