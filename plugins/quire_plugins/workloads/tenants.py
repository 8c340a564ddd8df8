"""Classes of users of a generated workload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from quire.errors import UserError
from quire.registry import near_miss


@dataclass(frozen=True, kw_only=True, slots=True)
class Tenant:
    """One class of users: its share of the conversations, and what its requests carry."""

    weight: float = 1.0
    priority: int = 0
    deadline: float | None = None


def read_tenant(name: str, options: Mapping[str, Any]) -> Tenant:
    """The tenant of these options. Raises UserError for one that is unknown or out of range."""
    known = [each.name for each in fields(Tenant)]
    for key, value in options.items():
        field = f"workload.tenants.{name}.{key}"
        if key not in known:
            raise UserError(f"{field}: a tenant has no such option{near_miss(key, known)}")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if key == "weight" and not (number and 0 < value < float("inf")):
            raise UserError(f"{field}={value}: must be a finite number > 0")
        if key == "priority" and not (number and isinstance(value, int)):
            raise UserError(f"{field}={value}: must be an integer")
        if key == "deadline" and value is not None and not (number and value > 0):
            raise UserError(f"{field}={value}: must be more than 0 seconds, or null")
    return Tenant(**options)
