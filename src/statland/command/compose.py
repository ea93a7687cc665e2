"""From Hydra's config to plain, resolved settings: below command/ nothing imports OmegaConf."""

from collections.abc import Container, Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from statland.settings import SettingError, check_value
from statland.training.config import Settings, check

GROUPS = ("model", "model/init", "data", "optimizer")


def plain(config: DictConfig) -> dict[str, Any]:
    """Return the config as plain values, interpolations resolved, for_model applied.

    Raises SettingError where an interpolation cannot be resolved.
    """
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        settings: Any = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise SettingError(str(error).splitlines()[0]) from error
    overrides = overrides_of_job() if HydraConfig.initialized() else []
    _set_for_model(settings, {override.split("=")[0] for override in overrides})
    return dict(settings)


def _set_for_model(settings: dict[str, Any], overridden: Container[str]) -> None:
    """Apply what for_model says of this model, except to keys that the command line sets.

    A preset that compares models of one size says there how wide each is.
    """
    for_model, model = settings.pop("for_model", {}), settings.get("model")
    if not isinstance(model, dict):
        return  # `check` refuses it
    name = str(model.get("_target_")).split(".")[-2:][0]
    own = check_value("for_model", for_model, dict).get(name, {})
    for key, value in check_value(f"for_model.{name}", own, dict).items():
        if f"model.{key}" not in overridden:
            model[key] = value


def choices_of_job() -> dict[str, str]:
    """Return the configs chosen for this job: model, model/init, data, optimizer."""
    chosen = HydraConfig.get().runtime.choices
    return {group: str(chosen[group]) for group in GROUPS if chosen.get(group) is not None}


def overrides_of_job() -> list[str]:
    """Return the overrides of this job, as the command line or the sweep gives them."""
    return list(map(str, HydraConfig.get().overrides.task))


def keys_of_job() -> list[str]:
    """Return the keys of these overrides."""
    return [override.split("=")[0].lstrip("+~") for override in overrides_of_job()]


def checked(values: Mapping[str, Any]) -> Settings:
    """Return plain values as Settings. Raises SettingError where they are out of bounds.

    `trust` counts on the command line alone: a config file comes from who knows where.
    """
    trust, overrides = values.get("trust"), overrides_of_job()
    if trust and not any(override.lstrip("+").startswith("trust=") for override in overrides):
        raise SettingError(f"trust is {trust!r} in a config file; allowed: on the command line")
    return check(values)
