"""What the engine needs of a package that a machine may lack, made of the standard library.

Where msgspec is there it is used, and nothing here; results say which it was.
"""

from __future__ import annotations

import dataclasses
import sys
from types import ModuleType
from typing import Any


class Struct:
    """As msgspec's: a class whose annotations become the parameters of its constructor. Slower to make."""

    def __init_subclass__(cls, *, kw_only: bool = False, **options: Any) -> None:
        del options  # frozen, and what else makes msgspec's fast; nobody here writes to one
        super().__init_subclass__()
        dataclasses.dataclass(kw_only=kw_only, eq=False)(cls)


def provide() -> list[str]:
    """Make what is lacking importable; returns its names."""
    try:
        import msgspec  # noqa: F401
    except ModuleNotFoundError:
        pass
    else:
        return []
    module = ModuleType("msgspec")
    module.Struct = Struct  # pyright: ignore[reportAttributeAccessIssue]
    module.field = dataclasses.field  # pyright: ignore[reportAttributeAccessIssue]
    sys.modules["msgspec"] = module
    return ["msgspec"]
