"""Checks that options of many plugins need, each with the one message that a user gets."""

from __future__ import annotations

import math

from quire.errors import UserError


def check_above_zero(
    kind: str, config: object, *names: str, what: str = "number", null: bool = False
) -> None:
    """Raise UserError unless each of these fields of `config` is finite and > 0, or None where `null` allows
    it. `kind` is the group that the options belong to; `what` says what is counted.
    """
    for name in names:
        value = getattr(config, name)
        if not (null and value is None) and not 0 < value < math.inf:
            allowed = f"a finite {what} > 0" + (", or null" if null else "")
            raise UserError(f"{kind}.{name}={value}: must be {allowed}")


def check_not_negative(kind: str, config: object, *names: str, what: str = "number") -> None:
    """Raise UserError unless each of these fields of `config` is finite and >= 0."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < math.inf:
            raise UserError(f"{kind}.{name}={value}: must be a finite {what} >= 0")
