"""KV groups: the layers that share one block table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from quire.interfaces.allocator import KVGroup

if TYPE_CHECKING:
    from quire.interfaces.attention import AttentionLayer

_Form: TypeAlias = tuple[int, int, int | None, int | None]


def assign_groups(layers: Sequence[AttentionLayer]) -> tuple[AttentionLayer, ...]:
    """The layers with `group` set: equal where what they keep and their windows are, in order of coming."""
    numbers: dict[_Form, int] = {}
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
            latent_dim=members[group][0].latent_dim,
        )
        for group in sorted(members)
    )


def _form(layer: AttentionLayer) -> _Form:
    return layer.kv_heads, layer.head_dim, layer.window, layer.latent_dim
