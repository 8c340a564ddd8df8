"""What Hydra and OmegaConf complain about, as one line: their message, then what was probably meant."""

from __future__ import annotations

import dataclasses
from typing import Any

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, ValidationError

from quire.config.run_config import RunConfig
from quire.errors import UserError
from quire.registry import Registry, near_miss

_NOISE = ("See https://", "Config search path:", "To append to your config", "\t", "    ")


def explain(error: Exception, registry: Registry) -> str:
    """One line for an error of Hydra's or OmegaConf's, raised while a configuration was composed."""
    cause = error.__cause__ or error
    if isinstance(error, MissingConfigException):
        return _missing_config(error, registry)
    if isinstance(error, OverrideParseException):
        return f"{_one_line(error)}: GROUP=PLUGIN or KEY=VALUE is expected"
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return _unknown_key(error, cause, registry)
    if isinstance(cause, ValidationError):
        override = _one_line(error).removeprefix("Error merging override ")
        return _one_line(error) if cause is error else f"{override}: {_one_line(cause)}"
    return _one_line(error)


def _missing_config(error: MissingConfigException, registry: Registry) -> str:
    message = (_one_line(error).partition(": ")[2] or _one_line(error)).rstrip(".")
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if group in registry.kinds:
        try:
            registry.get(group, name)
        except UserError as hint:
            return f"{message}: {hint}"
    options = list(error.options or ())
    choices = f"; choose one of: {', '.join(options)}" if options else ""
    return f"{message}{near_miss(name, options)}{choices}"


def _unknown_key(error: Exception, cause: ConfigKeyError | ConfigAttributeError, registry: Registry) -> str:
    parent, _, key = str(cause.full_key).rpartition(".")
    owner: Any = cause.object_type
    if owner is dict and parent:  # its names are the user's own, but only + enters one
        return f"{parent}: has no {key!r} yet; +{parent}.{key}=VALUE enters it"
    complaint = _one_line(cause).partition(". Did you mean")[0]  # OmegaConf 2.4 has a hint of its own
    message = complaint if cause is error else f"{_one_line(error)} {complaint}"
    known = [each.name for each in dataclasses.fields(owner)] if dataclasses.is_dataclass(owner) else []
    elsewhere = _plugins_with(key, parent, registry) if parent in registry.kinds else []
    if elsewhere:
        return f"{message}: it is an option of {' and of '.join(f'{parent}={name}' for name in elsewhere)}"
    sections = _sections_with(key)
    if sections:
        return f"{message}: it is {' or '.join(f'{section}.{key}' for section in sections)}"
    return f"{message}{near_miss(key, known)}; it has: {', '.join(known) or 'no options'}"


def _plugins_with(option: str, kind: str, registry: Registry) -> list[str]:
    """Plugins of a kind that have an option of that name."""
    return [
        name
        for name, plugin in registry.available(kind).items()
        if any(each.name == option for each in dataclasses.fields(plugin.Config))
    ]


def _sections_with(option: str) -> list[str]:
    """Parts of the configuration that are not a choice of plugin and have an option of that name."""
    return [
        section.name
        for section in dataclasses.fields(RunConfig)
        if dataclasses.is_dataclass(section.default_factory)
        and any(each.name == option for each in dataclasses.fields(section.default_factory))
    ]


def _one_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line and not line.startswith(_NOISE)]
    lines = [line for line in lines if not line.startswith("Available options in ")]
    return " ".join(lines)
