"""Tiles measured on a GPU, where somebody has measured them: `quire tune-kernels` writes them.

A launch function asks for the tile of a case by name and says which one it would take by itself. What is
compiled ahead of time is what it then takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from quire_kernels.triton.launch import Architecture

TABLES = Path(__file__).with_name("tuned")
"""One file an architecture: `<name>.json`."""

Tile = TypeVar("Tile", bound=NamedTuple)
LaunchFunction = TypeVar("LaunchFunction", bound=Callable[..., Any])
_remembering: list[Any] = []
_tried: dict[tuple[str, str], dict[str, int]] = {}


def remembers_tiles(function: LaunchFunction) -> LaunchFunction:
    """`functools.cache` for a launch function, emptied when a table changes."""
    cached = cache(function)
    _remembering.append(cached)
    return cached  # pyright: ignore[reportReturnType]


def tile_for(architecture: Architecture, family: str, case: str, default: Tile) -> Tile:
    """The measured tile of a case, or `default`."""
    measured = _tried.get((family, case)) or read_table(architecture.name).get(family, {}).get(case)
    return default if measured is None else default._replace(**measured)


@cache
def read_table(architecture: str) -> dict[str, dict[str, dict[str, int]]]:
    """Tiles by family and case; empty if there is no file."""
    path = TABLES / f"{architecture}.json"
    return json.loads(path.read_text())["tiles"] if path.is_file() else {}


def write_tile(
    architecture: str, family: str, case: str, tile: dict[str, int] | None, *, origin: str
) -> None:
    """Enter the tile of a case in the file; None takes it out. `origin` says where it was measured."""
    tiles = read_table(architecture)
    tiles = {**tiles, family: {**tiles.get(family, {})}}
    tiles[family].pop(case, None)
    if tile is not None:
        tiles[family][case] = tile
    TABLES.mkdir(exist_ok=True)
    path = TABLES / f"{architecture}.json"
    path.write_text(json.dumps({"origin": origin, "tiles": tiles}, indent=1, sort_keys=True) + "\n")
    forget()


@contextmanager
def trying(family: str, case: str, tile: dict[str, int]) -> Iterator[None]:
    """Within, launches of the case have this tile. For one thread at a time: it is everybody's."""
    _tried[family, case] = tile
    forget()
    try:
        yield
    finally:
        del _tried[family, case]
        forget()


def forget() -> None:
    """Read tables again, and ask launch functions anew."""
    read_table.cache_clear()
    for cached in _remembering:
        cached.cache_clear()
