"""Every Triton kernel against its twin in plain torch, computed in float64 from the same rounded inputs.

The error is ||out - expected|| / ||expected||. Outputs begin as NaN, and so does every cache slot that no
token is stored in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from box import Box
from torch import Tensor

BOUNDS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.2e-2}
Case = tuple[str, Callable[[], tuple[Tensor, Tensor]]]
"""What is checked, and a function that computes it: (what the kernel gave, what float64 gives)."""


def check(box: Box) -> None:
    """One row a kernel, option and type. A failure says how far off it was and stops nothing."""
    from check_cache import eight_bits
    from check_experts import experts
    from check_pages import pages
    from check_products import others, products
    from check_states import states

    families = (_attention, _rowwise, products, experts, others, states, pages, eight_bits)
    dtypes = [torch.float32, torch.float16] if box.dry else [torch.float32, torch.float16, torch.bfloat16]
    for dtype in dtypes:
        draw = Draw(dtype=dtype, device=box.device)
        for family in families:
            for what, compute in family(draw, box.dry):
                name = f"{what}, {str(dtype).removeprefix('torch.')}"
                if not box.has_time(name):
                    return
                try:
                    out, expected = compute()
                except Exception as error:  # a kernel that cannot run is a finding, and others still count
                    box.row(what=name, error=None, bound=BOUNDS[dtype], ok=False, reason=_line(error))
                    if box.device == "cuda" and not _device_lives():
                        raise
                    continue
                error = relative_error(out, expected)
                box.row(what=name, error=error, bound=BOUNDS[dtype], ok=bool(error <= BOUNDS[dtype]))


def relative_error(out: Tensor, expected: Tensor) -> float | None:
    """||out - expected|| / ||expected||; None if `out` has what is not finite."""
    out, expected = out.cpu().double(), expected.cpu().double()
    if not out.isfinite().all():
        return math.inf
    return float((out - expected).norm() / expected.norm())


class Draw:
    """Fresh random tensors of a type on a device, and the same numbers in float64 on the CPU."""

    def __init__(self, *, dtype: torch.dtype, device: str) -> None:
        self.dtype = dtype
        self.device = device
        self._generator = torch.Generator().manual_seed(0)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator).to(self.dtype).to(self.device)

    def permutation(self, count: int) -> Tensor:
        return torch.randperm(count, generator=self._generator)

    def empty(self, *shape: int) -> Tensor:
        return torch.full(shape, math.nan, dtype=self.dtype, device=self.device)


def wide(*tensors: Tensor) -> list[Tensor]:
    """Copies in float64 on the CPU."""
    return [tensor.cpu().double() for tensor in tensors]


def _attention(draw: Draw, dry: bool) -> Iterator[Case]:
    decode, mixed = [(1, 33), (1, 1), (1, 70)], [(40, 90), (1, 17), (3, 50)]
    yield "attention: decode", lambda: attend(draw, decode)
    yield "attention: prefill, chunk, draft and decode", lambda: attend(draw, mixed)
    options = {"window": 16, "softcap": 3.0, "sinks": True}
    yield "attention: window, softcap, sinks", lambda: attend(draw, mixed, **options)
    yield "attention: ALiBi, window, softcap, sinks", lambda: attend(draw, mixed, alibi=True, **options)
    for head_dim in (32,) if dry else (64, 80, 128):
        shape = {"head_dim": head_dim, "kv_heads": 4, "alibi": True}
        yield f"attention: decode, {shape}", lambda s=shape: attend(draw, decode, **s)
        yield f"attention: mixed, {shape}", lambda s=shape: attend(draw, mixed, **s)
    if dry:
        return
    # Each shape is two kernels to compile: all groups with the heads that most models have, one with others.
    for head_dim, groups in ((64, (1, 4, 7)), (80, (4,)), (96, (1,)), (128, (1, 4, 7)), (256, (7,))):
        for group in groups:
            shape = {"head_dim": head_dim, "heads": 2 * group}
            yield f"attention: decode, {shape}", lambda s=shape: attend(draw, decode, **s)
            yield f"attention: mixed, {shape}", lambda s=shape: attend(draw, mixed, **s)
    for block in (32, 64, 128):
        yield f"attention: blocks of {block}", lambda b=block: attend(draw, mixed, block_size=b)
    long = [(1, 9000), (1, 4097)]
    yield "attention: decode, long, shares merged", lambda: attend(draw, long, heads=8, head_dim=128)
    many = [(1, 100 + 7 * s) for s in range(64)]
    yield "attention: decode, 64 sequences", lambda: attend(draw, many, heads=8, head_dim=128)
    yield "attention: prefill of 1,500", lambda: attend(draw, [(1500, 1500), (300, 2000)], head_dim=128)


def attend(
    draw: Draw,
    sequences: list[tuple[int, int]],
    *,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 64,
    block_size: int = 16,
    window: int | None = None,
    softcap: float | None = None,
    sinks: bool = False,
    alibi: bool = False,
    code: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Stores the tokens of (queries, context) sequences in pages in random order, and attends.

    With a `code` the cache is one of 8 bits, and what is expected that of the values as they are rounded.
    """
    from quire_kernels import reference
    from quire_kernels import triton as kernels

    tokens = sum(length for _, length in sequences)
    blocks = [-(-length // block_size) for _, length in sequences]
    order = draw.permutation(sum(blocks) + 2).to(torch.int32)
    tables_SM = torch.zeros(len(sequences), max(blocks), dtype=torch.int32)
    slots, used = list[Tensor](), 0
    for s, (_, length) in enumerate(sequences):
        table = order[used : used + blocks[s]]
        used += blocks[s]
        tables_SM[s, : blocks[s]] = table
        at = torch.arange(length)
        slots.append(table[at // block_size].long() * block_size + at % block_size)
    queries = torch.tensor([0, *(count for count, _ in sequences)])
    host = (queries.cumsum(0).to(torch.int32), torch.tensor([n for _, n in sequences], dtype=torch.int32))
    k_TKD, v_TKD = draw.normal(tokens, kv_heads, head_dim), draw.normal(tokens, kv_heads, head_dim)
    q_THD = draw.normal(int(host[0][-1]), heads, head_dim)
    sinks_H = torch.randn(heads) if sinks else None
    slopes_H = 0.5 ** torch.linspace(1, 8, heads) if alibi else None
    of_heads = {"sinks_H": sinks_H, "alibi_slopes_H": slopes_H}
    options = {"scale": head_dim**-0.5, "window": window, "softcap": softcap}
    step = (tables_SM, *host)

    shape, _ = kernels.kv_cache_shapes(len(order), kv_heads, block_size, head_dim, draw.dtype)
    caches, scales = _caches(shape, code or draw.dtype, draw.device)
    out_THD = torch.full_like(q_THD, math.nan)
    kernels.store_kv(k_TKD, v_TKD, *caches, torch.cat(slots).to(draw.device), **scales)
    plan = kernels.plan_attention(*host, heads=heads, kv_heads=kv_heads, block_size=block_size, window=window)
    kernels.paged_attention(
        q_THD, *caches, *(tensor.to(draw.device) for tensor in step), out_THD, plan=plan, **options, **scales,
        **{name: None if each is None else each.to(draw.device) for name, each in of_heads.items()},
    )  # fmt: skip

    q, k, v = wide(q_THD, k_TKD, v_TKD)
    shape, _ = reference.kv_cache_shapes(len(order), kv_heads, block_size, head_dim, torch.float64)
    caches, scales = _caches(shape, code or torch.float64, "cpu")
    expected = torch.empty_like(q)
    reference.store_kv(k, v, *caches, torch.cat(slots), **scales)
    reference.paged_attention(q, *caches, *step, expected, **options, **of_heads, **scales)
    return out_THD, expected


def _caches(
    shape: tuple[int, ...], dtype: torch.dtype, device: str
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Keys and values, and the scales that 8 bits have, as if no token had ever been stored."""
    if dtype.itemsize > 1:
        return [torch.full(shape, math.nan, dtype=dtype, device=device) for _ in range(2)], {}
    caches = [torch.full(shape, 255, dtype=torch.uint8, device=device).view(dtype) for _ in range(2)]
    names = ("k_scales_NKB", "v_scales_NKB")
    return caches, {name: torch.full(shape[:3], math.nan, device=device) for name in names}


def _rowwise(draw: Draw, dry: bool) -> Iterator[Case]:
    for size in (48,) if dry else (64, 896, 4096, 16384):
        for unit_offset in (False, True):
            yield (
                f"RMSNorm of {size}, unit_offset={unit_offset}",
                lambda n=size, u=unit_offset: _norm(draw, n, u),
            )
    for dim in (32,) if dry else (64, 80, 128, 256):
        for interleaved in (False, True):
            yield (
                f"rotary of {dim}, interleaved={interleaved}",
                lambda d=dim, i=interleaved: _rotate(draw, d, i),
            )
    for size in (40,) if dry else (40, 1536, 14336):
        for activation in ("silu", "gelu_tanh"):
            yield f"{activation} gate of {size}", lambda n=size, a=activation: _gate(draw, n, a)


def _norm(draw: Draw, size: int, unit_offset: bool) -> tuple[Tensor, Tensor]:
    from quire_kernels import reference
    from quire_kernels import triton as kernels

    x_TE, residual_TE, weight_E = draw.normal(7, size), draw.normal(7, size), draw.normal(size)
    x, residual, weight = wide(x_TE, residual_TE, weight_E)
    # What is normed is the sum as it is stored, rounded.
    residual = (x + residual).to(draw.dtype).double()
    out_TE, expected = torch.full_like(x_TE, math.nan), torch.empty_like(x)
    kernels.rms_norm(x_TE, weight_E, out_TE, eps=1e-6, residual_TE=residual_TE, unit_offset=unit_offset)
    reference.rms_norm(residual, weight, expected, eps=1e-6, unit_offset=unit_offset)
    return torch.cat([out_TE, residual_TE]), torch.cat([expected, residual])


def _rotate(draw: Draw, dim: int, interleaved: bool) -> tuple[Tensor, Tensor]:
    from quire_kernels import reference
    from quire_kernels import triton as kernels

    q_THD, k_TKD = draw.normal(5, 6, dim), draw.normal(5, 2, dim)
    positions_T, cos_sin_PR = rotation(dim)
    q, k = wide(q_THD, k_TKD)
    on_device = (positions_T.to(draw.device), cos_sin_PR.to(draw.device))
    kernels.rotary(q_THD, k_TKD, *on_device, interleaved=interleaved)
    reference.rotary(q, k, positions_T, cos_sin_PR, interleaved=interleaved)
    return torch.cat([q_THD, k_TKD], dim=1), torch.cat([q, k], dim=1)


def rotation(dim: int) -> tuple[Tensor, Tensor]:
    """Positions of five tokens, and the cosines and sines of 128."""
    angles_PR = torch.outer(torch.arange(128.0), 1e4 ** -torch.linspace(0, 1, dim // 2))
    return torch.tensor([0, 1, 17, 100, 63]), torch.cat([angles_PR.cos(), angles_PR.sin()], dim=1)


def _gate(draw: Draw, size: int, activation: str) -> tuple[Tensor, Tensor]:
    from quire_kernels import reference
    from quire_kernels import triton as kernels

    gate_up = draw.normal(5, 2 * size)
    out, expected = draw.empty(5, size), torch.empty(5, size, dtype=torch.float64)
    kernels.act_mul(gate_up, out, activation=activation)
    reference.act_mul(*wide(gate_up), expected, activation=activation)
    return out, expected


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _device_lives() -> bool:
    """After a fault in a kernel every further call fails."""
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True
