"""Attention states merged: outputs over disjoint keys, with their log-sum-exps, become the output over all.

Two things split the keys of a row. Shares: few sequences with long contexts leave most of a GPU idle unless
several programs work on each (Dao et al., "Flash-Decoding for long-context inference", 2023). Cascades: a
context that many sequences begin with is attended to once for all of them, and the rest of each by itself
(Juravsky et al., "Hydragen", 2024; Ye et al., "Cascade inference", 2024). The merge is exact, and the same.

Suffixes of shapes: C parts (or shares) of a context, D padded head dimension.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import triton
import triton.language as tl
from triton import next_power_of_2

from quire_kernels.triton import launch
from quire_kernels.triton.attention_tile import LN2, LOG2E, finite_or_zero, load_rows
from quire_kernels.triton.checks import check_dtype, check_float, check_optional, check_rows, check_shape
from quire_kernels.triton.launch import Architecture, Launch
from quire_kernels.triton.tuned import remembers_tiles, tile_for
from quire_kernels.triton.variants import Variant

if TYPE_CHECKING:
    from torch import Tensor

MAX_MERGED_DIM = 512
_FEW_PARTS = 4
_ELEMENTS_PER_THREAD = 16


class _Tile(NamedTuple):
    """Parts at a time, and warps."""

    c: int
    warps: int


def merge_states(
    parts_CTHD: Tensor,
    lses_CTH: Tensor,
    out_THD: Tensor,
    *,
    sinks_H: Tensor | None = None,
    lse_TH: Tensor | None = None,
) -> None:
    """The output and log-sum-exp over the keys of all parts; see `quire_kernels`.

    A part without keys has a log-sum-exp of -inf; its output is not looked at. A row without keys becomes 0
    and -inf. `out_THD` and `lse_TH` may be one of the parts.
    """
    import torch

    if parts_CTHD.dim() != 4 or not len(parts_CTHD):
        raise ValueError(f"parts_CTHD has shape {tuple(parts_CTHD.shape)}; supported: [parts, T, H, D]")
    parts, tokens, heads, head_dim = parts_CTHD.shape
    check_float("parts_CTHD", parts_CTHD)
    if head_dim > MAX_MERGED_DIM:
        raise ValueError(f"head_dim {head_dim} is too large; supported: up to {MAX_MERGED_DIM}")
    check_shape("lses_CTH", lses_CTH, parts, tokens, heads)
    check_dtype("lses_CTH", lses_CTH, torch.float32)
    check_shape("out_THD", out_THD, tokens, heads, head_dim)
    check_float("out_THD", out_THD)
    for name, tensor in (("parts_CTHD", parts_CTHD), ("out_THD", out_THD)):
        check_rows(name, tensor)
    check_optional("sinks_H", sinks_H, heads)
    check_optional("lse_TH", lse_TH, tokens, heads)
    if tokens == 0:
        return
    merge_rows(parts_CTHD, lses_CTH, out_THD, sinks_H=sinks_H, lse_TH=lse_TH, many=parts > _FEW_PARTS)


def merge_rows(
    parts_CTHD: Tensor,
    lses_CTH: Tensor,
    out_THD: Tensor,
    *,
    sinks_H: Tensor | None,
    lse_TH: Tensor | None,
    query_starts_S1: Tensor | None = None,
    many: bool = True,
) -> None:
    """The launch, for checked tensors; with `query_starts_S1`, only rows of sequences are written.

    `many` is not read from the number of parts: how many shares a context has changes as it grows, and the
    kernel should not be compiled anew in the middle of decoding.
    """
    parts, tokens, heads, head_dim = parts_CTHD.shape
    configuration = launch_merge(launch.architecture_of(out_THD.device), head_dim=head_dim, many=many)
    merge_kernel[(tokens, heads)](
        parts_CTHD,
        lses_CTH,
        query_starts_S1,
        out_THD,
        sinks_H,
        lse_TH,
        0 if query_starts_S1 is None else query_starts_S1.shape[0] - 1,
        parts,
        *parts_CTHD.stride()[:3],
        *lses_CTH.stride(),
        *out_THD.stride()[:2],
        0 if lse_TH is None else lse_TH.stride(0),
        **configuration.keywords(),
    )


@remembers_tiles
def launch_merge(architecture: Architecture, *, head_dim: int, many: bool) -> Launch:
    """One row a program, TILE_C parts at a time."""
    padded_dim = max(16, next_power_of_2(head_dim))
    parts = 16 if many else 2
    threads = parts * padded_dim // _ELEMENTS_PER_THREAD
    default = _Tile(parts, min(8, max(1, threads // architecture.warp_size)))
    case = f"{'many' if many else 'few'}-d{max(64, padded_dim)}"
    tile = tile_for(architecture, "merge", case, default)
    return Launch(
        constants={"HEAD_DIM": head_dim, "PADDED_DIM": padded_dim, "TILE_C": tile.c}, num_warps=tile.warps
    )


@triton.jit(do_not_specialize=["sequences", "parts"])
def merge_kernel(
    part_outs,
    part_lses,
    query_starts,
    out,
    sinks,
    lse,
    sequences,
    parts,
    stride_parts_part,
    stride_parts_token,
    stride_parts_head,
    stride_lses_part,
    stride_lses_token,
    stride_lses_head,
    stride_out_token,
    stride_out_head,
    stride_lse,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    TILE_C: tl.constexpr,
):
    """Grid (tokens, heads). `sinks`, `lse` and `query_starts` may be None; the last bounds the rows."""
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    if query_starts is not None:  # noqa: SIM102 -- known to the compiler, the other is not
        if token >= tl.load(query_starts + sequences):
            return
    peak = float("-inf")
    total = 0.0
    if sinks is not None:
        sink = tl.load(sinks + head)
        peak = sink * LOG2E
        total = tl.where(sink == float("-inf"), 0.0, 1.0)
    part_outs += token * stride_parts_token + head * stride_parts_head
    part_lses += token * stride_lses_token + head * stride_lses_head
    acc_D = tl.zeros([PADDED_DIM], dtype=tl.float32)
    for first in range(0, parts, TILE_C):
        part_C = (first + tl.arange(0, TILE_C)).to(tl.int64)
        present_C = part_C < parts
        lse_C = tl.load(part_lses + part_C * stride_lses_part, mask=present_C, other=float("-inf"))
        part_CD = load_rows(
            part_outs, part_C * stride_parts_part, present_C, HEAD_DIM, PADDED_DIM, MASKED=True
        )
        # Nobody says what the output of no keys is, and 0 * NaN is NaN.
        part_CD = tl.where((lse_C == float("-inf"))[:, None], 0.0, part_CD.to(tl.float32))
        new_peak = tl.maximum(peak, tl.max(lse_C, 0) * LOG2E)
        shift = finite_or_zero(new_peak)
        weight_C = tl.exp2(lse_C * LOG2E - shift)
        decay = tl.exp2(peak - shift)
        acc_D = acc_D * decay + tl.sum(weight_C[:, None] * part_CD, 0)
        total = total * decay + tl.sum(weight_C, 0)
        peak = new_peak

    dim_D = tl.arange(0, PADDED_DIM)
    row = out + token * stride_out_token + head * stride_out_head
    total = tl.where(total == 0.0, 1.0, total)
    tl.store(row + dim_D, (acc_D / total).to(out.dtype.element_ty), mask=dim_D < HEAD_DIM)
    if lse is not None:
        tl.store(lse + token * stride_lse + head, (peak + tl.log2(total)) * LN2)


def variants(architecture: Architecture) -> Iterator[Variant]:
    """Shares, float32, of attention and of latent attention; and states, of the type of the output."""
    integers = {"sequences": "i32", "parts": "i32"}
    for sort, dtype, head_dim, options in (
        ("shares", "bf16", 128, ()),
        ("shares", "fp32", 80, ("sinks", "lse")),
        ("shares", "bf16", 512, ()),
        ("states", "bf16", 128, ("lse",)),
        ("states", "fp16", 64, ("sinks", "lse")),
    ):
        shares = sort == "shares"
        yield Variant(
            name="-".join(["merge", sort, dtype, f"d{head_dim}", *options]),
            kernel=merge_kernel,
            types={
                "part_outs": "*fp32" if shares else f"*{dtype}",
                "part_lses": "*fp32",
                "query_starts": "*i32" if shares else None,
                "out": f"*{dtype}",
                **{name: "*fp32" if name in options else None for name in ("sinks", "lse")},
                **integers,
            },
            launch=launch_merge(architecture, head_dim=head_dim, many=shares),
            unaligned=frozenset({"stride_lses_part", "stride_lses_token", "stride_lses_head", "stride_lse"}),
        )
