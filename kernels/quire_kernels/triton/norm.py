"""RMSNorm (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019), the residual's sum included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import triton
import triton.language as tl
from triton import next_power_of_2

from quire_kernels.triton.checks import check_dtype, check_float, check_rows, check_shape
from quire_kernels.triton.launch import ELEMENTS_PER_PROGRAM, Architecture, Launch
from quire_kernels.triton.variants import Variant

if TYPE_CHECKING:
    from torch import Tensor

MAX_NORM_SIZE = 16384


def rms_norm(
    x_TE: Tensor,
    weight_E: Tensor,
    out_TE: Tensor,
    *,
    eps: float,
    residual_TE: Tensor | None = None,
    unit_offset: bool = False,
) -> None:
    """out = x / rms(x) * weight over the last dimension; with a residual, of residual += x instead of x.

    Tensors have two dimensions or, as the heads of a query do, three. `out` may be `x`.
    """
    if x_TE.dim() not in (2, 3):
        raise ValueError(f"x_TE has shape {tuple(x_TE.shape)}; supported: two or three dimensions")
    size = x_TE.shape[-1]
    if size > MAX_NORM_SIZE:
        raise ValueError(f"x_TE has rows of {size} elements; supported: up to {MAX_NORM_SIZE}")
    check_float("x_TE", x_TE)
    check_shape("weight_E", weight_E, size)
    check_dtype("weight_E", weight_E, x_TE.dtype)
    check_rows("weight_E", weight_E)
    for name, tensor in (("x_TE", x_TE), ("out_TE", out_TE), ("residual_TE", residual_TE)):
        if tensor is not None:
            check_shape(name, tensor, *x_TE.shape)
            check_dtype(name, tensor, x_TE.dtype)
            check_rows(name, tensor)
    rows = x_TE.shape[:-1].numel()
    if rows == 0:
        return
    inner = x_TE.shape[1] if x_TE.dim() == 3 else 1
    configuration = launch_rms_norm(size=size, unit_offset=unit_offset)
    rms_norm_kernel[(triton.cdiv(rows, configuration.constants["TILE_R"]),)](
        x_TE,
        weight_E,
        out_TE,
        residual_TE,
        rows,
        inner,
        eps,
        *_row_strides(x_TE),
        *_row_strides(out_TE),
        *((0, 0) if residual_TE is None else _row_strides(residual_TE)),
        **configuration.keywords(),
    )


def _row_strides(x: Tensor) -> tuple[int, int]:
    """Strides of the rows [T] or [T, H] of a tensor, as [T, H]."""
    return (x.stride(0), x.stride(1)) if x.dim() == 3 else (x.stride(0), 0)


def launch_rms_norm(*, size: int, unit_offset: bool) -> Launch:
    """TILE_R whole rows a program, at most 32 elements a thread."""
    padded_size = next_power_of_2(size)
    return Launch(
        constants={
            "SIZE": size,
            "PADDED_SIZE": padded_size,
            "TILE_R": max(1, ELEMENTS_PER_PROGRAM // padded_size),
            "UNIT_OFFSET": unit_offset,
        },
        num_warps=min(16, max(4, padded_size // 1024)),
    )


@triton.jit
def rms_norm_kernel(
    x,
    weight,
    out,
    residual,
    rows,
    inner,
    eps,
    stride_x_outer,
    stride_x_inner,
    stride_out_outer,
    stride_out_inner,
    stride_residual_outer,
    stride_residual_inner,
    UNIT_OFFSET: tl.constexpr,
    SIZE: tl.constexpr,
    PADDED_SIZE: tl.constexpr,
    TILE_R: tl.constexpr,
):
    """Grid (tiles of TILE_R rows); row r is (r // inner, r % inner). `residual` may be None."""
    row_R = tl.program_id(0) * TILE_R + tl.arange(0, TILE_R)
    outer_R = (row_R // inner).to(tl.int64)
    inner_R = row_R % inner
    column_E = tl.arange(0, PADDED_SIZE)
    inside_RE = (row_R < rows)[:, None] & (column_E < SIZE)[None, :]

    offset_R = outer_R * stride_x_outer + inner_R * stride_x_inner
    x_RE = tl.load(x + offset_R[:, None] + column_E[None, :], mask=inside_RE, other=0.0).to(tl.float32)
    if residual is not None:
        offset_R = outer_R * stride_residual_outer + inner_R * stride_residual_inner
        residual_RE = residual + offset_R[:, None] + column_E[None, :]
        x_RE += tl.load(residual_RE, mask=inside_RE, other=0.0).to(tl.float32)
        sum_RE = x_RE.to(residual.dtype.element_ty)
        tl.store(residual_RE, sum_RE, mask=inside_RE)
        x_RE = sum_RE.to(tl.float32)

    scale_R = tl.rsqrt(tl.sum(x_RE * x_RE, 1) / SIZE + eps)
    weight_E = tl.load(weight + column_E, mask=column_E < SIZE, other=0.0).to(tl.float32)
    if UNIT_OFFSET:
        weight_E += 1.0
    y_RE = x_RE * scale_R[:, None] * weight_E[None, :]
    offset_R = outer_R * stride_out_outer + inner_R * stride_out_inner
    tl.store(out + offset_R[:, None] + column_E[None, :], y_RE.to(out.dtype.element_ty), mask=inside_RE)


def variants(architecture: Architecture) -> Iterator[Variant]:
    """The same on every architecture."""
    del architecture
    for dtype, size, residual in (("bf16", 128, None), ("bf16", 4096, "*bf16"), ("fp32", 16384, "*fp32")):
        yield Variant(
            name=f"norm-{dtype}-e{size}",
            kernel=rms_norm_kernel,
            types={
                **dict.fromkeys(("x", "weight", "out"), f"*{dtype}"),
                "residual": residual,
                **dict.fromkeys(("rows", "inner"), "i32"),
                "eps": "fp32",
            },
            launch=launch_rms_norm(size=size, unit_offset=residual is None),
        )
