"""What a result depends on: configuration, plugins, versions, commits and the machine, as plain data."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quire.config.run_config import RunConfig
    from quire.jobs.launch import Launch
    from quire.registry import PluginInfo, Registry

_LIBRARIES = ("torch", "triton", "transformers", "tokenizers", "numpy", "hydra-core", "omegaconf")


def describe_run(config: RunConfig, registry: Registry, *, launch: Launch) -> dict[str, Any]:
    """Everything to know a run by; JSON can hold it. Imports none of the libraries that it names.

    `plugins` are those chosen, `available` those of kinds that nobody chooses on the command line, which act
    where a request or a checkpoint asks for them. `distributions` are those of all these and quire's, each
    with the commit of the checkout that it runs from (`-dirty`: with files changed since), null if from none.
    """
    from omegaconf import OmegaConf

    chosen = {
        kind.name: registry.info(kind.name, registry.name_of(kind.name, getattr(config, kind.name)))
        for kind in registry.kinds.values()
        if kind.default is not None
    }
    unchosen = {
        kind.name: {name: registry.info(kind.name, name) for name in registry.available(kind.name)}
        for kind in registry.kinds.values()
        if kind.default is None
    }
    involved = [*chosen.values(), *(info for infos in unchosen.values() for info in infos.values())]
    return {
        "config": OmegaConf.to_container(OmegaConf.structured(config), resolve=True, enum_to_str=True),
        "choices": {kind: info.name for kind, info in chosen.items()},
        "plugins": {
            kind: {"target": info.target, "distribution": info.distribution, "version": info.version}
            for kind, info in chosen.items()
        },
        "available": {kind: list(infos) for kind, infos in unchosen.items()},
        "distributions": _distributions(involved),
        "libraries": {name: version for name in _LIBRARIES if (version := _version(name)) is not None},
        "python": platform.python_version(),
        "machine": describe_machine(),
        "command": list(launch.command),
        "overrides": list(launch.overrides),
        "sweep": None if launch.sweep is None else str(launch.sweep),
        "directory": str(Path.cwd()),
    }


def describe_machine() -> dict[str, Any]:
    """The host: its system, processor, the cores that this process may use, and its memory in bytes."""
    return {
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def commit_of(path: Path) -> str | None:
    """The commit of the git checkout that tracks `path`, with `-dirty` where files are changed; else None."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(path.parent), *arguments], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):  # no git here, or a disk too slow to wait for
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", path.name) is None:
        return None
    return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _distributions(infos: Iterable[PluginInfo]) -> dict[str, dict[str, str | None]]:
    modules = {"quire": "quire"} | {info.distribution: info.target.partition(":")[0] for info in infos}
    found: dict[str, dict[str, str | None]] = {}
    for name, module in modules.items():
        spec = find_spec(module)
        commit = commit_of(Path(spec.origin)) if spec and spec.origin else None
        found[name] = {"version": _version(name), "commit": commit}
    return found


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def command_line(
    script: str, *, places: Sequence[str] = ("--out", "--peers"), switches: Sequence[str] = ("--fresh",)
) -> str:
    """The command of this process, as a report names it: `script` from the repository's root, with its
    arguments. Options among `places`, which say no more than where files lie on this machine, are left out,
    and so are `switches`, which have no value and say no more than what to do with an earlier run.
    """
    words: list[str] = []
    arguments = iter(sys.argv[1:])
    for word in arguments:
        if word in switches:
            continue
        if word.partition("=")[0] not in places:
            words.append(word)
        elif "=" not in word:
            next(arguments, None)
    return shlex.join(["python", script, *words])
