"""Caches of 8 bits: what is stored in them, alone and on the way from the projection, and what reads them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from check_kernels import Case, Draw, attend, rotation, wide
from torch import Tensor

_CODES = {"int8": torch.int8, "e4m3": torch.float8_e4m3fn}
_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def eight_bits(draw: Draw, dry: bool) -> Iterator[Case]:
    """The shapes compiled ahead of time: every code with every head dimension, type and block size."""
    from quire_kernels.triton.attention_variants import EIGHT_BITS

    decode, mixed = [(1, 33), (1, 1), (1, 70)], [(40, 90), (1, 17), (3, 50)]
    shapes = [each[1:] for each in EIGHT_BITS if _TYPES[each[0]] == draw.dtype]
    for dim, block, code in [(48, 32, "e4m3")] if dry else shapes:
        what, shape = f"{code}, {dim} in blocks of {block}", {"head_dim": dim, "block_size": block}
        for name, sequences in (("decode", decode), ("mixed", mixed)):
            yield (
                f"attention to {what}: {name}",
                lambda s=sequences, h=shape, c=code: attend(draw, s, heads=8, code=_CODES[c], **h),
            )
        for normed in (False, True):
            yield (
                f"rotate and store of {what}, {normed=}",
                lambda d=dim, b=block, c=code, n=normed: _rotate_store(draw, d, b, _CODES[c], n),
            )


def _rotate_store(draw: Draw, dim: int, block: int, code: torch.dtype, normed: bool) -> tuple[Tensor, Tensor]:
    """Scales, and keys and values less what rounding them to the nearest code accounts for."""
    from quire_kernels import reference
    from quire_kernels import triton as kernels

    tokens, heads, kv_heads = 5, 6, 2
    q_THD, k_TKD, v_TKD = (draw.normal(tokens, n, dim) for n in (heads, kv_heads, kv_heads))
    norms = {"q_norm_D": draw.normal(dim), "k_norm_D": draw.normal(dim)} if normed else {}
    slots_T = torch.tensor([3, 2 * block + 8, block + 1, 0, 2 * block + 1])
    positions_T, cos_sin_PR = rotation(dim)
    indices = (slots_T, positions_T, cos_sin_PR)
    q, k, v = wide(q_THD, k_TKD, v_TKD)
    shape, _ = kernels.kv_cache_shapes(3, kv_heads, block, dim, draw.dtype)
    caches = [torch.full(shape, 255, dtype=torch.uint8, device=draw.device).view(code) for _ in range(2)]
    scales = [torch.full(shape[:3], torch.nan, device=draw.device) for _ in range(2)]
    kernels.rotate_store_kv(
        q_THD, k_TKD, v_TKD, *caches, *(each.to(draw.device) for each in indices),
        **norms, k_scales_NKB=scales[0], v_scales_NKB=scales[1],
    )  # fmt: skip
    plain = [torch.zeros(shape, dtype=torch.float64) for _ in range(2)]
    wide_norms = {name: norm.cpu().double() for name, norm in norms.items()}
    reference.rotate_store_kv(q, k, v, *plain, *indices, **wide_norms)
    got, expected = [q_THD.cpu().double().flatten()], [q.flatten()]
    for cache, scales_NKB, plain_NKBD in zip(caches, scales, plain, strict=True):
        stored_TKD, exact_TKD = (
            each[slots_T // block, :, slots_T % block].double() for each in (cache.cpu(), plain_NKBD)
        )
        scale_TK1 = scales_NKB.cpu()[slots_T // block, :, slots_T % block].double()[..., None]
        most = 127 if code == torch.int8 else 448
        got += [
            scale_TK1.flatten() * most,
            (_nearest(stored_TKD, exact_TKD / scale_TK1, code) * scale_TK1).flatten(),
        ]
        expected += [exact_TKD.abs().amax(dim=-1).flatten(), exact_TKD.flatten()]
    return torch.cat(got), torch.cat(expected)


def _nearest(stored: Tensor, exact: Tensor, code: torch.dtype) -> Tensor:
    """`exact` where `stored` is a code next to it; elsewhere by as much off as that is too far away."""
    if code == torch.int8:
        half = torch.full_like(exact, 0.5)
    else:  # three bits after the first, and no exponent below -6
        half = torch.exp2(exact.abs().clamp(min=2.0**-6).log2().floor() - 4)
    away = stored - exact
    return exact + away - away.clamp(-half, half)
