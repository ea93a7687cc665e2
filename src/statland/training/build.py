"""From settings to the objects that they name.

`_target_` names the class: of this project, of torch.optim, or of a package that the command line
trusts. Nothing else is imported or called, whatever a config holds and wherever it comes from.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FunctionType, NoneType
from typing import Annotated, Any, NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from statland.data.base import Days, Market
from statland.models.bare import Foreign, takes_lengths
from statland.models.base import SequenceModel
from statland.settings import Range, SettingError, check_arguments, check_value, did_you_mean
from statland.training.config import Settings

# Where the classes of each group are defined.
HOMES = {
    "model": "statland.models",
    "model.init": "statland.models",
    "data": "statland.data",
    "optimizer": "torch.optim",
}


Factor = Annotated[float, Range(above=0)]


class Built(NamedTuple):
    """What a run is made of."""

    market: Market
    model: SequenceModel
    optimizer: Optimizer


def build(settings: Settings, device: torch.device) -> Built:
    """Build the market, the model and the optimizer that the settings name.

    Raises SettingError if one cannot be built.
    """
    market, model = build_model(settings, device)
    kind, values = _named("optimizer", settings["optimizer"], Optimizer, settings["trust"])
    # torch checks some of these only in training, or in words that name no setting.
    by_default = {bool: bool, NoneType: bool | None, tuple: list}
    rates = values.pop("lr_of", {})
    hints: dict[str, Any] = {
        name: by_default.get(type(argument.default), Annotated[float, Range(0)])
        for name, argument in inspect.signature(kind).parameters.items()
    }
    given = {"params", "capturable", "differentiable"}
    values = check_arguments("optimizer", kind, values, given, hints)
    with _refusals("optimizer"):
        groups = parameter_groups(model, rates, values.get("lr"))
        optimizer = without_dynamo(kind)(groups, **values)
    return Built(market, model, optimizer)


def parameter_groups(
    model: SequenceModel, rates: Any, lr: float | None
) -> Iterable[nn.Parameter] | list[dict[str, Any]]:
    """Return a model's parameters, the recurrent ones with rates["recurrent"] times the rate `lr`.

    Raises SettingError for another name, and where a model has none.
    """
    if not isinstance(rates, Mapping) or rates.keys() - {"recurrent"}:
        raise SettingError(f"optimizer.lr_of is {rates}; allowed: {{recurrent: A FACTOR of lr}}")
    factor = check_value("optimizer.lr_of.recurrent", rates.get("recurrent", 1), Factor)
    if factor == 1 or lr is None:
        return model.parameters()
    if not (recurrent := model.recurrent_parameters()):
        raise SettingError(
            f"optimizer.lr_of.recurrent is {factor:g}; allowed: 1, as {type(model).__name__} "
            f"has no parameters of a feedback"
        )
    own = set(map(id, recurrent))
    others = [parameter for parameter in model.parameters() if id(parameter) not in own]
    return [{"params": others}, {"params": recurrent, "lr": lr * factor}]


def build_model(settings: Settings, device: torch.device) -> tuple[Market, SequenceModel]:
    """Build the market that the settings name, and the model, its sizes the market's."""
    trust, values = settings["trust"], dict(settings["model"])
    data = dict(settings["data"])
    check_value("data.longer_days", data.pop("longer_days", None), Days | None)
    market: Market = _made("data", data, Market, trust, seed=settings["seed"])
    given: dict[str, Any] = {"input_size": market.input_size, "output_size": market.output_size}
    if "init" in values:
        init = values.pop("init")
        if not isinstance(init, Mapping):
            raise SettingError(f"model.init is {init!r}; allowed: a choice of model/init=")
        function, own = _named("model.init", init, FunctionType, trust)
        given["init"] = partial(function, **check_arguments("model.init", function, own, ["model"]))
    model: nn.Module = _made("model", values, nn.Module, trust, **given)
    if not isinstance(model, SequenceModel):
        ages = torch.cat([batch.lengths for batch in market.validation()])
        if not takes_lengths(model) and int(ages.min()) < int(ages.max()):
            raise SettingError(
                f"model._target_ is {values['_target_']}, whose forward takes no lengths; allowed: "
                "forward(x, lengths), or a market of one age (data.min_days equal to data.max_days)"
            )
        model = Foreign(model)
    if market.labels == "every" and type(model).every_day is SequenceModel.every_day:
        name = type(model).__name__
        raise SettingError(f"data.labels is every; allowed: last, as {name} has no every_day")
    with _refusals(f"dtype={settings['dtype']} on device={device}"):  # mps has no float64
        return market, model.to(device, getattr(torch, settings["dtype"]))


def longer_market(settings: Settings) -> Market | None:
    """Build the market at ages from data.max_days to data.longer_days; None where that is null.

    Ages that follow from data.max_days, min_days being null, then follow from longer_days.
    """
    data = dict(settings["data"])
    longer = data.pop("longer_days", None)
    if longer is None:
        return None
    oldest = check_value("data.longer_days", longer, Annotated[int, Range(data["max_days"])])
    youngest = None if data["min_days"] is None else data["max_days"]
    data |= {"min_days": youngest, "max_days": oldest}
    return _made("data", data, Market, settings["trust"], seed=settings["seed"])


def _made(key: str, values: Mapping[str, Any], kind: type, trust: list[str], **given: Any) -> Any:
    """Build what `values` names, which is a `kind`."""
    target, own = _named(key, values, kind, trust)
    arguments = check_arguments(key, target, own, given)
    with _refusals(key):
        return target(**given, **arguments)


def without_dynamo(kind: type[Optimizer]) -> Any:
    """Return a subclass that steps as `kind` does, without what only torch.compile needs.

    Making and stepping an optimizer imports torch._dynamo, which takes as long as importing torch
    itself. Nothing is compiled here. torch's own classes stay as they are.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    step = torch.no_grad()(inspect.unwrap(kind.step))
    step.hooked = True  # else torch would wrap it again, for its profiler
    return type(kind.__name__, (kind,), methods | {"step": step})


@contextmanager
def _refusals(key: str) -> Iterator[None]:
    """Turn whatever a constructor raises for its arguments into a SettingError of that group."""
    try:
        yield
    except SettingError:
        raise
    except (ValueError, TypeError, RuntimeError, MemoryError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise SettingError(f"{key}: {reason or type(error).__name__}") from error


def _named(
    key: str, values: Mapping[str, Any], kind: type, trust: list[str]
) -> tuple[Any, dict[str, Any]]:
    """Import the `kind` that `_target_` names; return it, and the other settings of the group.

    Raises SettingError, before any import, for what is outside the allow-list.
    """
    target, homes = str(values.get("_target_")), [HOMES[key], *trust]
    module_name, _, name = target.rpartition(".")
    home = next((home for home in homes if target.startswith(f"{home}.")), None)
    if home is None or not all(part.isidentifier() for part in target.split(".")):
        allowed = " and ".join(f"{home}.*" for home in homes)
        raise SettingError(
            f"{key}._target_ is {target}; allowed: {allowed}, and packages named by trust= on the "
            f"command line"
        )
    settings = {key: value for key, value in values.items() if key != "_target_"}
    _refuse_targets(key, settings)
    if home in trust and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # where a package of one's own is likely to be; never first
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise SettingError(f"{key}._target_ is {target}: {error}") from error
    found = vars(module).get(name)
    # Not what its module has merely imported: that could be anything.
    if not callable(found) or not f"{getattr(found, '__module__', '')}.".startswith(f"{home}."):
        raise SettingError(
            f"{key}._target_ is {target}, which {home} does not define"
            f"{did_you_mean(name, vars(module))}"
        )
    if not (issubclass(found, kind) if inspect.isclass(found) else isinstance(found, kind)):
        base = "" if kind is FunctionType else f"subclass of {kind.__module__}."
        raise SettingError(f"{key}._target_ is {target}, which is no {base}{kind.__name__}")
    return found, settings


def _refuse_targets(key: str, value: Any) -> None:
    """Raise SettingError for a `_target_` inside a setting, at any depth."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            raise SettingError(
                f"{key}._target_ is {value['_target_']}; allowed: _target_ in model, model.init, "
                f"data and optimizer alone"
            )
        for name, item in value.items():
            _refuse_targets(f"{key}.{name}", item)
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            _refuse_targets(f"{key}[{place}]", item)
