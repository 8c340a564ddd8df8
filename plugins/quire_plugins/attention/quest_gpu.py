"""Quest by Triton's kernels, which ask the device nothing: decoding steps can be replayed from CUDA graphs.

A step is cut into stretches of sequences that follow one another and decode, or don't. Those that decode
choose pages; the others, and whole steps of layers that choose none, attend as PagedAttention does.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from quire.interfaces.attention import AttentionLayer
from quire.interfaces.kv_cache import KVCache

if TYPE_CHECKING:
    import torch

    from quire.runtime.batch import Batch
    from quire_kernels.triton import AttentionPlan


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stretch:
    """Sequences of the step that follow one another, with rows and tensors of their own."""

    rows: slice
    tables_SM: torch.Tensor
    query_starts_S1: torch.Tensor
    seq_lens_S: torch.Tensor
    plan: AttentionPlan

    @property
    def pages(self) -> int:
        """That the longest sequence has, or more."""
        return -(-self.plan.max_seq_len // self.plan.block_size)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GroupStep:
    """A step, for the layers of one KV group: whole, and cut into stretches."""

    whole: Stretch
    decoding: tuple[Stretch, ...]
    others: tuple[Stretch, ...]


def group_step(batch: Batch, layer: AttentionLayer) -> GroupStep:
    """The step as the layers of this one's group read it."""
    starts = batch.host_query_starts_S1.tolist()
    whole = _stretch(batch, layer, 0, len(starts) - 1)
    kinds: dict[bool, list[Stretch]] = {True: [], False: []}
    for decodes, run in groupby(range(len(starts) - 1), lambda s: starts[s + 1] - starts[s] == 1):
        sequences = list(run)
        alone = len(sequences) == len(starts) - 1
        kinds[decodes].append(whole if alone else _stretch(batch, layer, sequences[0], sequences[-1] + 1))
    return GroupStep(whole=whole, decoding=tuple(kinds[True]), others=tuple(kinds[False]))


def _stretch(batch: Batch, layer: AttentionLayer, first: int, stop: int) -> Stretch:
    from quire_kernels.triton import plan_attention

    host_starts = batch.host_query_starts_S1[first : stop + 1]
    tensors = (batch.tables_GSM[layer.group][first:stop], batch.seq_lens_S[first:stop])
    starts = batch.query_starts_S1[first : stop + 1]
    if first > 0:
        # Copies begin where memory is aligned, for which the kernels are compiled already.
        tensors = tuple(tensor.clone() for tensor in tensors)
        starts = starts - starts[0]
    return Stretch(
        rows=slice(int(host_starts[0]), int(host_starts[-1])),
        tables_SM=tensors[0],
        query_starts_S1=starts,
        seq_lens_S=tensors[1],
        plan=plan_attention(
            host_starts,
            batch.host_seq_lens_S[first:stop],
            heads=layer.heads,
            kv_heads=layer.kv_heads,
            block_size=batch.block_size,
            window=layer.window,
        ),
    )


def store(
    k_TKD: torch.Tensor, v_TKD: torch.Tensor, cache: KVCache, slots_T: torch.Tensor, block_size: int
) -> None:
    """Keep a step's keys and values, and the bounds of their pages."""
    from quire_kernels.triton import store_bounds, store_kv

    store_kv(k_TKD, v_TKD, *_keys_and_values(cache), slots_T)
    store_bounds(k_TKD, *_bounds(cache), slots_T, block_size=block_size)


def attend(
    layer: AttentionLayer,
    step: GroupStep,
    q_THD: torch.Tensor,
    cache: KVCache,
    out_THD: torch.Tensor,
    *,
    pages: int | None,
) -> None:
    """Attention of the step's rows; decoding, to `pages` pages for each head of keys, to all where None."""
    if pages is None or step.whole.pages <= pages:
        _attend_to_all(layer, step.whole, q_THD, cache, out_THD)
        return
    for stretch in step.others:
        _attend_to_all(layer, stretch, q_THD, cache, out_THD)
    for stretch in step.decoding:
        if stretch.pages <= pages:
            _attend_to_all(layer, stretch, q_THD, cache, out_THD)
        else:
            _attend_to_best(layer, stretch, q_THD, cache, out_THD, pages)


def _attend_to_all(
    layer: AttentionLayer, stretch: Stretch, q_THD: torch.Tensor, cache: KVCache, out_THD: torch.Tensor
) -> None:
    from quire_kernels.triton import paged_attention

    paged_attention(
        q_THD[stretch.rows],
        *_keys_and_values(cache),
        stretch.tables_SM,
        stretch.query_starts_S1,
        stretch.seq_lens_S,
        out_THD[stretch.rows],
        scale=layer.scale,
        window=layer.window,
        softcap=layer.softcap,
        alibi_slopes_H=layer.alibi_slopes_H,
        sinks_H=layer.sinks_H,
        plan=stretch.plan,
    )


def _attend_to_best(
    layer: AttentionLayer,
    stretch: Stretch,
    q_THD: torch.Tensor,
    cache: KVCache,
    out_THD: torch.Tensor,
    pages: int,
) -> None:
    import torch

    from quire_kernels.triton import attend_pages, page_scores

    q_SHD = q_THD[stretch.rows]
    scores_SKP = q_SHD.new_empty((len(q_SHD), layer.kv_heads, stretch.pages), dtype=torch.float32)
    page_scores(
        q_SHD,
        *_bounds(cache),
        stretch.tables_SM,
        stretch.seq_lens_S,
        scores_SKP,
        block_size=stretch.plan.block_size,
        scale=layer.scale,
        softcap=layer.softcap,
        alibi_slopes_H=layer.alibi_slopes_H,
    )
    attend_pages(
        q_SHD,
        *_keys_and_values(cache),
        stretch.tables_SM,
        stretch.seq_lens_S,
        scores_SKP.topk(pages, dim=-1, sorted=False).indices,
        out_THD[stretch.rows],
        scale=layer.scale,
        softcap=layer.softcap,
        alibi_slopes_H=layer.alibi_slopes_H,
        sinks_H=layer.sinks_H,
    )


def _keys_and_values(cache: KVCache) -> tuple[torch.Tensor, torch.Tensor]:
    """Both as the kernels have them, [N, K, B, D]."""
    return cache.k[:, :-1].transpose(1, 2), cache.v[:, :-1].transpose(1, 2)


def _bounds(cache: KVCache) -> tuple[torch.Tensor, torch.Tensor]:
    """The least and the largest keys of the pages, [N, K, D]."""
    return cache.k[:, -1], cache.v[:, -1]
