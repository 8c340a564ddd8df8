"""Weights of tenants, as options of a fair scheduler."""

from __future__ import annotations

from collections.abc import Mapping

from quire.errors import UserError


def check_weights(weights: Mapping[str, float]) -> None:
    """Raise UserError for a weight that is no share."""
    for tenant, weight in weights.items():
        if not 0 < weight < float("inf"):
            raise UserError(f"scheduler.weights.{tenant}={weight}: must be a finite number > 0")


def check_tenant(tenant: str, weights: Mapping[str, float]) -> None:
    """Raise UserError for a tenant without a weight where there are weights."""
    if weights and tenant not in weights:
        raise UserError(
            f"tenant={tenant!r}: has no weight; scheduler.weights names {', '.join(sorted(weights))}"
        )
