"""Attention among the tokens of whole texts, with nothing kept: scaled_dot_product_attention, group by group.

Windows are computed in blocks of queries, each against the keys that any of its rows sees, so that a text of
8,000 tokens needs neither a mask of 8,000 x 8,000 nor the products that it would hide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quire.interfaces.attention import AttentionBackend, AttentionLayer
from quire.interfaces.kv_cache import KVCache, KVCacheSpec, KVGeometry, TensorSpec
from quire.models.packed_texts import TextGroup, group_texts

if TYPE_CHECKING:
    import torch

    from quire.runtime.batch import Batch

_QUERY_BLOCK = 256
"""Rows of a windowed layer that are computed at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reach:
    """How far a token sees: `back` and `ahead` are distances in tokens, None is as far as the text goes."""

    back: int | None = None
    ahead: int | None = None


class PackedAttention(AttentionBackend):
    """For a decoder that computes whole texts once: causal, with no memory of keys and values.

    The metadata are the groups of `PackedTexts`; the caches are empty.
    """

    supports_sinks = False
    supports_softcap = False

    def kv_cache_spec(self, geometry: KVGeometry) -> KVCacheSpec:
        return KVCacheSpec(k=TensorSpec((0,), geometry.dtype), v=TensorSpec((0,), geometry.dtype))

    def prepare(self, batch: Batch, layers: tuple[AttentionLayer, ...]) -> tuple[TextGroup, ...]:
        return group_texts(batch.host_seq_lens_S.tolist(), device=batch.token_ids_T.device)

    def forward(
        self,
        layer: AttentionLayer,
        q_THD: torch.Tensor,
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        cache: KVCache,
        batch: Batch,
        metadata: Any,
        out_THD: torch.Tensor,
    ) -> None:
        reach = Reach(back=None if layer.window is None else layer.window - 1, ahead=0)
        attend(q_THD, k_TKD, v_TKD, metadata, out_THD, scale=layer.scale, reach=reach)


def attend(
    q_THD: torch.Tensor,
    k_TKD: torch.Tensor,
    v_TKD: torch.Tensor,
    groups: Sequence[TextGroup],
    out_THD: torch.Tensor,
    *,
    scale: float,
    reach: Reach,
) -> None:
    """Write to `out_THD` (contiguous) what each token attends to among those of its own text."""
    for group in groups:
        q_NHLD, k_NKLD, v_NKLD = (_unpacked(x, group) for x in (q_THD, k_TKD, v_TKD))
        out_NLHD = _attend_group(q_NHLD, k_NKLD, v_NKLD, group, scale=scale, reach=reach).transpose(1, 2)
        flat = out_NLHD.flatten(0, 1)
        out_THD[group.rows] = flat if group.tokens_T is None else flat[group.tokens_T]


def _unpacked(x_THD: torch.Tensor, group: TextGroup) -> torch.Tensor:
    """[N, H, L, D]; a view where lengths are equal."""
    if group.cells_NL is None:
        return x_THD[group.rows].unflatten(0, (group.count, group.longest)).transpose(1, 2)
    return x_THD[group.cells_NL].transpose(1, 2)


def _attend_group(
    q_NHLD: torch.Tensor,
    k_NKLD: torch.Tensor,
    v_NKLD: torch.Tensor,
    group: TextGroup,
    *,
    scale: float,
    reach: Reach,
) -> torch.Tensor:
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    options: dict[str, Any] = {"scale": scale, "enable_gqa": q_NHLD.shape[1] != k_NKLD.shape[1]}
    length = group.longest
    back, ahead = (
        far if far is not None and far < length - 1 else length for far in (reach.back, reach.ahead)
    )
    if back == length and ahead == 0:  # padding comes after every token that counts: nobody sees it
        return scaled_dot_product_attention(q_NHLD, k_NKLD, v_NKLD, is_causal=True, **options)
    valid_N11L = None if group.valid_NL is None else group.valid_NL[:, None, None]
    if back == ahead == length:
        return scaled_dot_product_attention(q_NHLD, k_NKLD, v_NKLD, attn_mask=valid_N11L, **options)
    blocks: list[torch.Tensor] = []
    for first in range(0, length, _QUERY_BLOCK):
        end = min(first + _QUERY_BLOCK, length)
        keys = slice(max(0, first - back), min(length, end + ahead))
        key_C = torch.arange(keys.start, keys.stop, device=q_NHLD.device)
        away_QC = key_C - torch.arange(first, end, device=q_NHLD.device)[:, None]
        mask = (away_QC >= -back) & (away_QC <= ahead)
        if valid_N11L is not None:
            mask = mask & valid_N11L[..., keys]
        blocks.append(
            scaled_dot_product_attention(
                q_NHLD[:, :, first:end], k_NKLD[:, :, keys], v_NKLD[:, :, keys], attn_mask=mask, **options
            )
        )
    return torch.cat(blocks, dim=2)
