"""From settings to the objects that they name, or one clear line on why they cannot be built.

`_target_` names the class: of this project, of torch.optim, or of a package that the command line
trusts. Nothing else is imported or called, whatever a config holds and wherever it comes from.
"""

import importlib
import inspect
import math
import os
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch

from statland.data.base import Market
from statland.models.base import SequenceModel
from statland.settings import SettingError, did_you_mean, number
from statland.training.config import Settings, refuse_targets
from statland.training.device import DTYPES

# Where the classes of each group live.
HOMES = {
    "model": "statland.models",
    "model.init": "statland.models",
    "data": "statland.data",
    "optimizer": "torch.optim",
}

# What torch.optim has that cannot fit these models.
UNFIT = {
    "torch.optim.LBFGS": "needs a function that computes the loss again",
    "torch.optim.SparseAdam": "takes sparse gradients only",
    "torch.optim.Muon": "takes matrices only",
}


class Built(NamedTuple):
    """What a run is made of."""

    market: Market
    model: SequenceModel
    optimizer: torch.optim.Optimizer


def build(settings: Settings, device: torch.device) -> Built:
    """The market, the model and the optimizer that the settings name.

    Raises SettingError where one cannot be built.
    """
    market, model = build_model(settings, device)
    return Built(market, model, _optimizer(settings["optimizer"], model, settings["trust"]))


def build_model(settings: Settings, device: torch.device) -> tuple[Market, SequenceModel]:
    """The market that the settings name, and the model, its inputs and outputs the market's."""
    trust, model_settings = settings["trust"], settings["model"]
    market: Market = _made("data", settings["data"], Market, trust, seed=settings["seed"])
    sizes: dict[str, Any] = {"input_size": market.input_size, "output_size": market.output_size}
    if isinstance(model_settings.get("init"), Mapping):
        sizes["init"] = _initialisation(model_settings["init"], trust)
        model_settings = {key: v for key, v in model_settings.items() if key != "init"}
    elif "init" in model_settings:
        value = model_settings["init"]
        raise SettingError(f"model.init is {value!r}; allowed: a choice of model/init=")
    model: SequenceModel = _made("model", model_settings, SequenceModel, trust, **sizes)
    if device.type == "mps" and settings["dtype"] == "float64":
        raise SettingError("dtype is 'float64', which device=mps has not; allowed: float32")
    return market, model.to(device, DTYPES[settings["dtype"]])


def _initialisation(values: Mapping[str, Any], trust: list[str]) -> Any:
    """The function below model.init, its settings filled in; it takes the model."""
    function = _target("model.init", values, trust)
    if not inspect.isfunction(function):
        raise SettingError(
            f"model.init._target_ is {values['_target_']}; allowed: a function that takes a model"
        )
    return partial(function, **_arguments("model.init", values, function, {"model"}))


def _optimizer(
    values: Mapping[str, Any], model: SequenceModel, trust: list[str]
) -> torch.optim.Optimizer:
    """The optimizer of all parameters of a model."""
    target = str(values.get("_target_"))
    if target in UNFIT:
        raise SettingError(
            f"optimizer._target_ is {target}, which {UNFIT[target]}; allowed: the others of "
            f"torch.optim"
        )
    kind: Any = _target("optimizer", values, trust)
    if not (inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer)):
        raise SettingError(f"optimizer._target_ is {target}; allowed: a torch.optim.Optimizer")
    without = {"params", "capturable", "differentiable"}
    arguments = _arguments("optimizer", values, kind, without)
    for name, parameter in inspect.signature(kind).parameters.items():
        if name in arguments:
            _check_optimizer_setting(f"optimizer.{name}", arguments[name], parameter.default)
    with _refusals("optimizer"):
        return without_dynamo(kind)(model.parameters(), **arguments)


def _check_optimizer_setting(key: str, value: Any, usual: Any) -> None:
    """Refuse what torch would refuse later, or in words that name no setting."""
    if usual is None or isinstance(usual, bool):
        if not isinstance(value, bool) and not (usual is None and value is None):
            raise SettingError(f"{key} is {value!r}; allowed: true, false")
    elif isinstance(usual, tuple):
        if not isinstance(value, list) or len(value) != len(usual):
            raise SettingError(f"{key} is {value!r}; allowed: [{len(usual)} numbers]")
        for item in value:
            number(key, item, 0, below=1 if key == "optimizer.betas" else None)
    else:
        # An average of squares that keeps more than all of what it had becomes negative.
        most = 1 if key == "optimizer.alpha" else math.inf
        number(key, value, 0 if usual >= 0 else -math.inf, most)


def without_dynamo(kind: type[torch.optim.Optimizer]) -> Any:
    """A subclass that steps as `kind` does, without what only torch.compile needs.

    Making and stepping an optimizer imports torch._dynamo, which takes as long as importing torch
    itself, and tells it at every step to look away. Nothing is compiled here. torch's own classes
    stay as they are.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    step = torch.no_grad()(inspect.unwrap(kind.step))
    step.hooked = True  # else torch would wrap it again, for its profiler
    return type(kind.__name__, (kind,), methods | {"step": step})


def _made(key: str, values: Mapping[str, Any], kind: type, trust: list[str], **given: Any) -> Any:
    """Build what `values` names, a `kind`; whatever its constructor refuses is a SettingError."""
    built = _target(key, values, trust)
    if not (inspect.isclass(built) and issubclass(built, kind)):
        raise SettingError(f"{key}._target_ is {values['_target_']}; allowed: a {kind.__name__}")
    arguments = _arguments(key, values, built, set(given))
    with _refusals(key):
        return built(**given, **arguments)


class _refusals:
    """Whatever a constructor raises for its arguments becomes a SettingError of that group."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, SettingError) or not isinstance(
            error, ValueError | TypeError | RuntimeError | MemoryError | OverflowError
        ):
            return
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SettingError(f"{self.key}: {reason}") from error


def _target(key: str, values: Mapping[str, Any], trust: list[str]) -> Any:
    """What `_target_` names; refused, before anything is imported, where that is not ours."""
    target = values.get("_target_")
    homes = [HOMES[key], *trust]
    parts = str(target).split(".")
    home = next((h for h in homes if isinstance(target, str) and target.startswith(f"{h}.")), None)
    if home is None or not all(part.isidentifier() for part in parts):
        allowed = " and ".join(f"{home}.*" for home in homes)
        raise SettingError(
            f"{key}._target_ is {target}; allowed: {allowed}, and packages named by trust= on the "
            f"command line"
        )
    if home in trust and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # where a package of one's own is likely to be; never first
    try:
        module = importlib.import_module(".".join(parts[:-1]))
        built = vars(module)[parts[-1]]
    except (ImportError, KeyError) as error:
        if isinstance(error, ImportError) and home in trust:
            raise SettingError(f"{key}._target_ is {target}: {error}") from error
        raise SettingError(
            f"{key}._target_ is {target}, which was not found; allowed: what {key}= names"
            f"{_nearest(parts)}"
        ) from error
    # Not what its module has merely imported: that could be anything.
    defined_in = getattr(built, "__module__", None) or ""
    if not callable(built) or not f"{defined_in}.".startswith(f"{home}."):
        raise SettingError(f"{key}._target_ is {target}, which {home} does not define")
    return built


def _arguments(
    key: str, values: Mapping[str, Any], built: Any, given: Iterable[str]
) -> dict[str, Any]:
    """The settings for a constructor; refused where it has no such setting, or lacks one.

    What is `given` by the bench is no setting.
    """
    parameters = inspect.signature(built).parameters
    target, allowed = values["_target_"], [name for name in parameters if name not in given]
    for name, value in values.items():
        if name == "_target_":
            continue
        if name not in allowed:
            has = ", ".join(name for name in values if name in allowed) or "none"
            raise SettingError(
                f"{key}.{name} is no setting of {target}; allowed: {has}"
                f"{did_you_mean(name, allowed)}"
            )
        refuse_targets(f"{key}.{name}", value)
    for name in allowed:
        if parameters[name].default is inspect.Parameter.empty and name not in values:
            raise SettingError(f"{key}.{name} is missing; allowed: {key}.{name}=VALUE")
    return {name: value for name, value in values.items() if name != "_target_"}


def _nearest(parts: list[str]) -> str:
    """The name in the module that is most like the one that was not found."""
    module = sys.modules.get(".".join(parts[:-1]))
    names = [] if module is None else [name for name in vars(module) if not name.startswith("_")]
    return did_you_mean(parts[-1], names)
