"""Attention of this repository against torch's: decoding over batch and context, and a prefill.

Keys and values of this repository lie in pages in random order, torch's one after another. Several sets take
turns, so that none is found in the cache, and graphs replay them, so that no launch is waited for. torch's
SDPA gets two forms of the same work and the faster counts: with grouped heads, and with a group's heads as
queries of one key head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from box import Box
from timing import Timing, time_calls
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

HEADS, KV_HEADS, HEAD_DIM = 32, 8, 128
GROUP = HEADS // KV_HEADS
BLOCK = 16
_ROTATED_BYTES = 2**29
"""Of keys and values that rounds go through at least: ten times a cache."""

Call = Callable[[], object]


def decode_rows(dry: bool) -> list[tuple[int, int]]:
    """(batch, context) in the order of value: those with a goal first."""
    if dry:
        return [(2, 64), (1, 300)]
    goals = [(64, 4096), (64, 8192), (64, 16384), (64, 32768), (1, 32768)]
    return [*goals, (1, 4096), (16, 4096), (16, 32768), (4, 32768), (4, 4096), (256, 1024), (256, 4096)]


def measure_decode(box: Box) -> None:
    """Every form over all rows; flex_attention, which is compiled for each, after the others."""
    dtype = torch.float32 if box.dry else torch.bfloat16
    for batch, context in decode_rows(box.dry):
        if box.has_time(_decode(batch, context), seconds=1):
            _decode_paged(box, batch, context, dtype)
            _decode_sdpa(box, batch, context, dtype)
    for batch, context in decode_rows(box.dry)[:5]:
        if box.has_time(f"flex {_decode(batch, context)}", seconds=0 if box.dry else 8):
            seconds = _time_dense(box, batch, context, dtype, partial(_flex(box), enable_gqa=True))
            box.row(what=_decode(batch, context), arm="flex", batch=batch, context=context, seconds=seconds)


def _decode(batch: int, context: int) -> str:
    return f"decode {batch} x {context}"


def _decode_paged(box: Box, batch: int, context: int, dtype: torch.dtype) -> None:
    from quire_kernels import triton as kernels

    sets, blocks = _sets(batch, context, dtype, box), -(-context // BLOCK)
    caches, order = _paged_cache(sets * batch * blocks, dtype, box.device)
    q_THD = torch.randn(batch, HEADS, HEAD_DIM, dtype=dtype, device=box.device)
    out_THD = torch.empty_like(q_THD)
    plan, starts, lengths = _planned([1] * batch, [context] * batch, box.device)
    calls = [
        partial(
            kernels.paged_attention, q_THD, *caches, tables_SM, starts, lengths, out_THD,
            scale=HEAD_DIM**-0.5, plan=plan,
        )
        for tables_SM in order.view(sets, batch, blocks)
    ]  # fmt: skip
    timing = _time(box, calls)
    box.row(
        what=_decode(batch, context),
        arm="paged",
        batch=batch,
        context=context,
        bytes=2 * batch * context * KV_HEADS * HEAD_DIM * dtype.itemsize,
        seconds=timing.seconds,
        least=timing.least,
        most=timing.most,
        sets=sets,
    )


def _decode_sdpa(box: Box, batch: int, context: int, dtype: torch.dtype) -> None:
    forms = {
        "grouped heads": lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        "heads as queries": lambda q, k, v: functional.scaled_dot_product_attention(
            q.view(batch, KV_HEADS, GROUP, HEAD_DIM), k, v
        ),
    }
    for form, attend in forms.items():
        with sdpa_kernel(_fused(box)):
            seconds = _time_dense(box, batch, context, dtype, attend)
        box.row(
            what=_decode(batch, context), arm="sdpa", form=form, batch=batch, context=context, seconds=seconds
        )


def measure_prefill(box: Box) -> None:
    """One prompt, causal: this repository's unified kernel, torch's flash attention, flex_attention."""
    dtype = torch.float32 if box.dry else torch.bfloat16
    arms = {"paged": _prefill_paged, "sdpa": _prefill_sdpa, "flex": _prefill_flex}
    for length in (48,) if box.dry else (8192, 2048, 32768):
        for arm, prefill in arms.items():
            if box.has_time(f"{arm} prefill {length}", seconds=0 if box.dry else 12 if arm == "flex" else 1):
                box.row(
                    what=f"prefill {length}",
                    arm=arm,
                    context=length,
                    operations=4 * HEADS * HEAD_DIM * length * (length + 1) / 2,
                    seconds=prefill(box, length, dtype),
                )


def _prefill_paged(box: Box, length: int, dtype: torch.dtype) -> float:
    from quire_kernels import triton as kernels

    caches, order = _paged_cache(-(-length // BLOCK), dtype, box.device)
    q_THD = torch.randn(length, HEADS, HEAD_DIM, dtype=dtype, device=box.device)
    plan, starts, lengths = _planned([length], [length], box.device)
    step = (q_THD, *caches, order[None], starts, lengths, torch.empty_like(q_THD))
    return _time(box, [partial(kernels.paged_attention, *step, scale=HEAD_DIM**-0.5, plan=plan)]).seconds


def _prefill_sdpa(box: Box, length: int, dtype: torch.dtype) -> float:
    with sdpa_kernel(_fused(box)):
        return _time_prompt(
            box,
            length,
            dtype,
            partial(functional.scaled_dot_product_attention, is_causal=True, enable_gqa=True),
        )


def _prefill_flex(box: Box, length: int, dtype: torch.dtype) -> float:
    from torch.nn.attention.flex_attention import create_block_mask

    mask = create_block_mask(
        lambda batch, head, query, key: query >= key, None, None, length, length, device=box.device
    )
    return _time_prompt(box, length, dtype, partial(_flex(box), block_mask=mask, enable_gqa=True))


def _paged_cache(
    blocks: int, dtype: torch.dtype, device: str
) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Keys and values in so many pages, and the pages' numbers in random order."""
    from quire_kernels import triton as kernels

    shapes = kernels.kv_cache_shapes(blocks, KV_HEADS, BLOCK, HEAD_DIM, dtype)
    k_cache, v_cache = (torch.randn(shape, dtype=dtype, device=device) for shape in shapes)
    return (k_cache, v_cache), torch.randperm(blocks, device=device).to(torch.int32)


def _planned(
    queries: list[int], contexts: list[int], device: str
) -> tuple[object, torch.Tensor, torch.Tensor]:
    """The plan of a step, and its query starts and lengths on the device."""
    from quire_kernels import triton as kernels

    starts = torch.tensor([0, *queries]).cumsum(0).to(torch.int32)
    lengths = torch.tensor(contexts, dtype=torch.int32)
    plan = kernels.plan_attention(starts, lengths, heads=HEADS, kv_heads=KV_HEADS, block_size=BLOCK)
    return plan, starts.to(device), lengths.to(device)


def _flex(box: Box) -> Callable[..., torch.Tensor]:
    """flex_attention, compiled where speed counts."""
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention if box.dry else torch.compile(flex_attention, dynamic=False)


def _time(box: Box, calls: list[Call]) -> Timing:
    return time_calls(calls, device=box.device, budget=0.0 if box.dry else 0.3, graph=True)


def _sets(batch: int, context: int, dtype: torch.dtype, box: Box) -> int:
    """So many sets of keys and values that one round through them empties the cache."""
    each = 2 * batch * context * KV_HEADS * HEAD_DIM * dtype.itemsize
    return 1 if box.dry else max(1, -(-_ROTATED_BYTES // each))


def _fused(box: Box) -> list[SDPBackend]:
    """torch's fast forms; a CPU has none for every type."""
    return [SDPBackend.MATH] if box.dry else [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION]


def _time_prompt(box: Box, length: int, dtype: torch.dtype, attend: Callable[..., torch.Tensor]) -> float:
    """Seconds of `attend` (q, k, v) for one prompt."""
    q, k, v = (
        torch.randn(1, heads, length, HEAD_DIM, dtype=dtype, device=box.device)
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    )
    return _time(box, [partial(attend, q, k, v)]).seconds


def _time_dense(
    box: Box, batch: int, context: int, dtype: torch.dtype, attend: Callable[..., torch.Tensor]
) -> float:
    """Seconds of `attend` (q, k, v), keys and values one after another as torch's functions take them."""
    shapes = ((HEADS, 1), (KV_HEADS, context), (KV_HEADS, context))
    sets = [
        [
            torch.randn(batch, heads, tokens, HEAD_DIM, dtype=dtype, device=box.device)
            for heads, tokens in shapes
        ]
        for _ in range(_sets(batch, context, dtype, box))
    ]
    return _time(box, [partial(attend, *each) for each in sets]).seconds
