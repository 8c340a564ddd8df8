"""`quire plugins [KIND] [--json]`: what is installed, from which distribution, and whether it works."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from quire.registry import Registry, load_registry

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH_WITHOUT_TERMINAL = 200


def main(arguments: Sequence[str]) -> None:
    """List the plugins, of one kind or all. Raises UserError if there is no such kind."""
    parser = argparse.ArgumentParser(prog="quire plugins", description="List the installed plugins.")
    parser.add_argument("kind", nargs="?", metavar="KIND", help="only this kind, such as scheduler")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    options = parser.parse_args(arguments)
    registry = load_registry()
    if options.json:
        plugins = registry.plugins(options.kind)
        print(json.dumps([dataclasses.asdict(info) | {"status": info.status} for info in plugins], indent=2))
        return
    from rich.console import Console

    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=_WIDTH_WITHOUT_TERMINAL)
    console.print(_table(registry, options.kind))


def _table(registry: Registry, only: str | None) -> Table:
    """One row a plugin, under one that names its kind."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("name", "distribution", "version", "status"):
        table.add_column(column, no_wrap=True)
    table.add_column("description")
    for kind, infos in itertools.groupby(registry.plugins(only), key=lambda info: info.kind):
        known = registry.kinds.get(kind)
        table.add_row(kind, "", "", "", known.summary if known else "", style="bold cyan")
        for info in infos:
            text = Text(info.error or info.description, style="red" if info.error else "")
            table.add_row(f"  {info.name}", info.distribution, info.version, info.status, text)
    return table
