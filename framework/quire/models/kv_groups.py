"""KV groups: the layers that share one block table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from quire.interfaces.allocator import KVGroup

if TYPE_CHECKING:
    from quire.interfaces.attention import AttentionLayer


def assign_groups(layers: Sequence[AttentionLayer]) -> tuple[AttentionLayer, ...]:
    """The layers with `group` set: equal where heads, head dimension and window are, in order of coming."""
    numbers: dict[tuple[int, int, int | None], int] = {}
    return tuple(replace(layer, group=numbers.setdefault(_form(layer), len(numbers))) for layer in layers)


def kv_groups(layers: Sequence[AttentionLayer]) -> tuple[KVGroup, ...]:
    """The groups that `assign_groups` numbered, in order."""
    members: dict[int, list[AttentionLayer]] = {}
    for layer in layers:
        members.setdefault(layer.group, []).append(layer)
    return tuple(
        KVGroup(
            layers=tuple(layer.index for layer in members[group]),
            kv_heads=members[group][0].kv_heads,
            head_dim=members[group][0].head_dim,
            window=members[group][0].window,
        )
        for group in sorted(members)
    )


def _form(layer: AttentionLayer) -> tuple[int, int, int | None]:
    return layer.kv_heads, layer.head_dim, layer.window
