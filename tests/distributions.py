"""Installed distributions, made up for a test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write_distribution(
    site: Path,
    name: str,
    entry_points: Mapping[str, Mapping[str, str]],
    modules: Mapping[str, str],
    *,
    version: str = "1.0",
) -> None:
    """Write a distribution into `site`, a directory for sys.path, as pip leaves it there.

    `entry_points` are groups of name -> target, `modules` sources by module name.
    """
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines: list[str] = []
    for group, entries in entry_points.items():
        lines += [f"[{group}]", *(f"{entry} = {target}" for entry, target in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for module, source in modules.items():
        (site / f"{module}.py").write_text(source)


SCHEDULER = '''
from dataclasses import dataclass
from quire.interfaces import Scheduler

@dataclass
class {name}Config:
    aging: float = 0.5

class {name}(Scheduler):
    """Does nothing, slowly.

    More about it."""
    Config = {name}Config
    def __init__(self, *, config, extra=None):
        self.config, self.extra = config, extra
    def schedule(self, queues, step): ...
'''
"""Source of a scheduler; format it with a `name`."""
