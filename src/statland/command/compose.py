"""From Hydra's config to plain, resolved settings: below command/ nothing knows OmegaConf."""

from collections.abc import Container, Iterable, Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from statland.settings import SettingError
from statland.training.config import Settings, check

GROUPS = ("model", "model/init", "data", "optimizer")


def plain(config: DictConfig, typed: Iterable[str] | None = None) -> dict[str, Any]:
    """The config as plain values, interpolations resolved. Raises SettingError where they can't.

    `typed` are the overrides that made it, by default those of the Hydra job in progress.
    """
    if typed is None:
        typed = overrides_of_job() if HydraConfig.initialized() else ()
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        values = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise SettingError(str(error).splitlines()[0]) from error
    assert isinstance(values, dict)
    settings = {str(key): value for key, value in values.items()}
    _set_for_model(settings, {override.split("=")[0] for override in typed})
    return settings


def _set_for_model(settings: dict[str, Any], typed: Container[str]) -> None:
    """Let what for_model says of this model take effect, but for keys that were typed.

    A preset that compares models of one size says there how wide each is.
    """
    for_model, model = settings.pop("for_model", None) or {}, settings.get("model")
    if not isinstance(for_model, Mapping) or not all(
        isinstance(keys, Mapping) for keys in for_model.values()
    ):
        raise SettingError(f"for_model is {for_model!r}; allowed: {{NAME: {{KEY: VALUE}}}}")
    if not isinstance(model, dict):
        return  # which is refused by itself
    name = str(model.get("_target_")).split(".")[-2:][0]
    for key, value in (for_model.get(name) or {}).items():
        if f"model.{key}" not in typed:
            model[key] = value


def as_far_as_resolved(config: DictConfig) -> dict[str, Any]:
    """The config as plain values, resolved where it can be, for a job that cannot begin."""
    try:
        return plain(config)
    except SettingError:
        values = OmegaConf.to_container(config, resolve=False)
        assert isinstance(values, dict)
        return {str(key): value for key, value in values.items()}


def choices_of_job() -> dict[str, str]:
    """The configs that were chosen for this job: model, model/init, data, optimizer."""
    chosen = HydraConfig.get().runtime.choices
    return {group: str(chosen[group]) for group in GROUPS if chosen.get(group) is not None}


def overrides_of_job() -> list[str]:
    """The arguments of the command line that are this job's, as they were typed."""
    typed = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    assert isinstance(typed, list)
    return [str(override) for override in typed]


def checked(values: Mapping[str, Any], typed: Iterable[str]) -> Settings:
    """Plain values as Settings. Raises SettingError where they, or whom they trust, cannot be."""
    check_trust(values.get("trust"), typed)
    return check(values)


def check_trust(trust: object, typed: Iterable[str]) -> None:
    """Refuse a package to trust that the command line does not name itself.

    A config file, a preset or a run folder comes from who knows where; the command line does not.
    """
    named: object = []
    for override in OverridesParser.create().parse_overrides(list(typed)):
        if override.get_key_element().lstrip("+~") == "trust":
            named = override.value()
    if trust != named:
        raise SettingError(
            f"trust is {trust!r} in a config file or preset; allowed: on the command line"
        )
