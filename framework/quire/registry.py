"""The registry: every plugin of every installed distribution, found by entry points, imported on demand."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.metadata
import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

from quire.errors import UserError
from quire.kinds import ENTRY_POINT_PREFIX, KIND_GROUP, KINDS, Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class PluginInfo:
    """One registered plugin, as `quire plugins` lists it."""

    kind: str
    name: str
    distribution: str
    version: str
    target: str
    """Where it is: 'module:Class'."""
    description: str = ""
    """First line of the class's docstring."""
    error: str | None = None
    """Why it cannot be used; None if it can."""

    @property
    def status(self) -> str:
        return "ok" if self.error is None else "broken"


def near_miss(word: str, words: Iterable[str]) -> str:
    """' (did you mean ...?)' if one of `words` is close to `word`, else nothing."""
    close = difflib.get_close_matches(word, list(words), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def load_registry(extra: Iterable[EntryPoint] = ()) -> Registry:
    """The registry of what is installed now, and of `extra`, which an experiment has to itself. Imports no
    plugin yet.
    """
    found = importlib.metadata.entry_points()
    groups = [group for group in found.groups if group.startswith(ENTRY_POINT_PREFIX)]
    return Registry([*extra, *(entry for group in groups for entry in found.select(group=group))])


class Registry:
    """Plugins by kind and name. A plugin's module is imported when it is first asked for.

    A plugin that cannot be used (its import fails, it is not of its kind's interface, Hydra cannot show its
    options) is kept with its error: `get` raises it, `plugins` reports it, everything else goes on.
    """

    def __init__(self, entries: Iterable[EntryPoint]) -> None:
        """Raises UserError if two entries claim the same name in the same kind."""
        entries = sorted(entries, key=lambda entry: (entry.group, entry.name, _source(entry)))
        self._stray: list[PluginInfo] = []
        self.kinds: dict[str, Kind] = {kind.name: kind for kind in KINDS}
        self._add_kinds([entry for entry in entries if entry.group == KIND_GROUP])
        self._entries: dict[str, dict[str, EntryPoint]] = {name: {} for name in self.kinds}
        for entry in entries:
            if entry.group != KIND_GROUP:
                self._add_entry(entry)
        self._loaded: dict[str, dict[str, type[Any] | Exception]] = {}

    def _add_kinds(self, entries: Sequence[EntryPoint]) -> None:
        for entry in entries:
            try:
                kind = entry.load()
                if not isinstance(kind, Kind) or kind.name != entry.name:
                    raise TypeError(f"{entry.value} is not a quire.kinds.Kind of the name {entry.name!r}")
            except Exception as error:  # a stranger's module may raise anything
                self._stray.append(_info(entry, error=_line(error)))
                continue
            if kind.name in self.kinds:
                raise UserError(f"kind {kind.name!r}, registered by {_source(entry)}, exists already")
            self.kinds[kind.name] = kind

    def _add_entry(self, entry: EntryPoint) -> None:
        kind = entry.group.removeprefix(ENTRY_POINT_PREFIX)
        if kind not in self.kinds:
            hint = near_miss(kind, self.kinds)
            self._stray.append(_info(entry, error=f"there is no kind {kind!r}{hint}"))
            return
        first = self._entries[kind].setdefault(entry.name, entry)
        if first is not entry:
            raise UserError(
                f"{kind} {entry.name!r} is registered twice: by {_source(first)} as {first.value}"
                f" and by {_source(entry)} as {entry.value}; uninstall one of them"
            )

    def names(self, kind: str) -> list[str]:
        """Names registered for a kind, in order, whether they can be used or not."""
        return list(self._entries[self._known(kind)])

    def get(self, kind: str, name: str) -> type[Any]:
        """The plugin's class. Raises UserError, with the near miss or the plugin's own error."""
        loaded = self._load(kind).get(name)
        if loaded is None:
            raise UserError(
                f"there is no {kind} {name!r}{near_miss(name, self.names(kind))};"
                f" choose one of: {', '.join(self.names(kind)) or 'none is installed'}"
            )
        if isinstance(loaded, Exception):
            entry = self._entries[kind][name]
            raise UserError(f"{kind} {name!r} of {_source(entry)}: {_line(loaded)}") from loaded
        return loaded

    def available(self, kind: str) -> dict[str, type[Any]]:
        """The kind's usable plugins by name."""
        return {name: found for name, found in self._load(kind).items() if isinstance(found, type)}

    def name_of(self, kind: str, config: Any) -> str:
        """The plugin whose `Config` is exactly the type of `config`."""
        for name, plugin in self.available(kind).items():
            if plugin.Config is type(config):
                return name
        known = ", ".join(plugin.Config.__qualname__ for plugin in self.available(kind).values())
        raise UserError(f"{type(config).__qualname__} configures no {kind}; these do: {known or 'none'}")

    def create(self, kind: str, config: Any, **parts: Any) -> Any:
        """A plugin made from its config, whose type selects the class, and the parts that its kind takes."""
        return self.available(kind)[self.name_of(kind, config)](config=config, **parts)

    def info(self, kind: str, name: str) -> PluginInfo:
        """What is known of a registered plugin."""
        entry, found = self._entries[kind][name], self._load(kind)[name]
        if isinstance(found, Exception):
            return _info(entry, error=_line(found))
        lines = (found.__doc__ or "").strip().splitlines()
        return _info(entry, description=lines[0] if lines else "")

    def plugins(self, kind: str | None = None) -> list[PluginInfo]:
        """All plugins (of one kind), with what was registered for a kind that does not exist."""
        if kind is not None:
            return [self.info(kind, name) for name in self.names(kind)]
        return [info for each in self.kinds for info in self.plugins(each)] + self._stray

    def broken(self) -> list[PluginInfo]:
        """What cannot be used of the kinds that are chosen on the command line, and strays."""
        chosen = [kind.name for kind in self.kinds.values() if kind.default is not None]
        infos = [info for kind in chosen for info in self.plugins(kind)] + self._stray
        return [info for info in infos if info.error is not None]

    def _known(self, kind: str) -> str:
        if kind not in self.kinds:
            raise UserError(
                f"there is no kind {kind!r}{near_miss(kind, self.kinds)}; kinds are {', '.join(self.kinds)}"
            )
        return kind

    def _load(self, kind: str) -> dict[str, type[Any] | Exception]:
        """Every plugin of a kind: its class, or the exception that keeps it from being used."""
        if self._known(kind) not in self._loaded:
            loaded: dict[str, type[Any] | Exception] = {}
            owner: dict[type[Any], str] = {}
            for name, entry in self._entries[kind].items():
                try:
                    plugin = entry.load()
                    _check(plugin, self.kinds[kind])
                    if self.kinds[kind].configured and owner.setdefault(plugin.Config, name) != name:
                        shared = f"{plugin.Config.__qualname__} with {owner[plugin.Config]!r}"
                        raise TypeError(f"{plugin.__qualname__} shares {shared}; give it a Config of its own")
                    loaded[name] = plugin
                except Exception as error:  # a stranger's module may raise anything
                    loaded[name] = error
            self._loaded[kind] = loaded
        return self._loaded[kind]


def _check(plugin: Any, kind: Kind) -> None:
    """Raise TypeError if `plugin` is not a complete class of its kind, with options that Hydra can show."""
    interface = kind.load_interface()
    if not (inspect.isclass(plugin) and issubclass(plugin, interface)):
        raise TypeError(f"{plugin!r} is not a subclass of {kind.interface}")
    if inspect.isabstract(plugin):
        missing = ", ".join(sorted(plugin.__abstractmethods__))  # pyright: ignore[reportAttributeAccessIssue]
        raise TypeError(f"{plugin.__qualname__} does not implement {missing}")
    if not kind.configured:
        return
    config = vars(plugin).get("Config")
    if not (inspect.isclass(config) and dataclasses.is_dataclass(config)):
        raise TypeError(f"{plugin.__qualname__} has no dataclass `Config` of its own")
    if "<locals>" in config.__qualname__:
        raise TypeError(f"{config.__qualname__} must be defined at module level, to be pickled")
    if config.__dataclass_params__.frozen:  # pyright: ignore[reportAttributeAccessIssue]
        raise TypeError(f"{config.__qualname__} is frozen; Hydra could not override its fields")
    from omegaconf import OmegaConf

    OmegaConf.structured(config)


def _info(entry: EntryPoint, *, description: str = "", error: str | None = None) -> PluginInfo:
    return PluginInfo(
        kind=entry.group.removeprefix(ENTRY_POINT_PREFIX),
        name=entry.name,
        distribution=entry.dist.name if entry.dist else "unknown",
        version=entry.dist.version if entry.dist else "unknown",
        target=entry.value,
        description=description,
        error=error,
    )


def _source(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution"


def _line(error: Exception) -> str:
    """An exception as one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
