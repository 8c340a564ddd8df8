"""From a command line's overrides to a `RunConfig`: plugins' configs in Hydra's store, then composition."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from quire.config.complaints import explain
from quire.config.help import help_template
from quire.config.run_config import RunConfig, run_config_type
from quire.errors import UserError
from quire.registry import Registry, load_registry, near_miss

CONFIG_NAME = "config"
COMPLAINTS = (HydraException, OmegaConfBaseException, YAMLError, OSError, ValueError)
"""What Hydra raises for a mistake of the user's: in an override, in a file of theirs, in where results go."""


def hydra_version() -> dict[str, str]:
    """The argument with which Hydra 1.3 behaves as 1.4 does, which deprecates the argument itself."""
    major, minor = hydra.__version__.split(".")[:2]
    return {"version_base": "1.3"} if (int(major), int(minor)) < (1, 4) else {}


def config_directory() -> Path:
    """conf/ with config.yaml: inside the installed package, or beside framework/ in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def store(registry: Registry) -> None:
    """Make Hydra know the registry: a typed root, a group for each kind, an option for each plugin.

    conf/config.yaml builds on three nodes made here: `run` (the typed root), `plugins` (each group's
    default) and `hydra/help: quire`.
    """
    configs = ConfigStore.instance()
    # Hydra copies its repository for each group that it lists, the whole store with it: a second for --help.
    # The store is the one of its class, and what is loaded from it is copied anyway.
    setattr(configs, "__deepcopy__", functools.partial(_itself, configs))  # noqa: B010 - no such attribute else
    kinds = [kind for kind in registry.kinds.values() if kind.default is not None]
    _forget(configs, [kind.name for kind in kinds])
    for kind in kinds:
        for name, plugin in registry.available(kind.name).items():
            provider = registry.info(kind.name, name).distribution
            configs.store(group=kind.name, name=name, node=plugin.Config, provider=provider)
    defaults = [{kind.name: kind.default} for kind in kinds]
    configs.store(name="run", node=run_config_type(kinds), provider="quire")
    configs.store(name="plugins", node={"defaults": ["_self_", *defaults]}, provider="quire")
    configs.store(
        group="hydra/help",
        name="quire",
        node={"app_name": "quire", "header": "", "footer": "", "template": help_template(registry)},
        provider="quire",
    )


def _itself(configs: ConfigStore, memo: dict[int, Any]) -> ConfigStore:
    del memo
    return configs


def _forget(configs: ConfigStore, kinds: Iterable[str]) -> None:
    """Take back what an earlier registry stored: Hydra 1.4 warns of a name that is stored twice."""
    for name in (*kinds, "run.yaml", "plugins.yaml"):
        configs.repo.pop(name, None)
    configs.repo.get("hydra", {}).get("help", {}).pop("quire.yaml", None)


def compose(overrides: Sequence[str] = (), registry: Registry | None = None) -> RunConfig:
    """The configuration that a command line with these overrides would run. For scripts and tests."""
    registry = registry or load_registry()
    store(registry)
    try:
        with hydra.initialize_config_dir(str(config_directory()), **hydra_version()):
            composed = hydra.compose(CONFIG_NAME, list(overrides))
    except COMPLAINTS as error:
        raise UserError(explain(error, registry)) from error
    return run_config(composed)


def run_config(composed: DictConfig) -> RunConfig:
    """Hydra's composed configuration as objects: each plugin's options as an instance of its `Config`.

    Raises UserError for a key that nothing reads, for a value that a config's own check refuses, and for one
    that must be given but is not.
    """
    try:
        config: Any = OmegaConf.to_object(composed)
    except MissingMandatoryValue as error:
        raise UserError(f"{error.full_key}: no value given, and it has no default") from error
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    assert isinstance(config, RunConfig)
    _refuse_unknown(config, "")
    return config


def _refuse_unknown(config: Any, prefix: str) -> None:
    """`+key=value` adds any key; one that is no field of its dataclass would be ignored silently."""
    known = [each.name for each in dataclasses.fields(config)]
    for name, value in vars(config).items():
        if name not in known:
            kind = type(config).__name__
            raise UserError(f"{prefix}{name}: {kind} has no such key{near_miss(name, known)}")
        if dataclasses.is_dataclass(value):
            _refuse_unknown(value, f"{prefix}{name}.")
