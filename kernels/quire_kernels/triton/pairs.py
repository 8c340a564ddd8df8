"""What surrounds the products of experts: pairs of a token and an expert put in the experts' order, and a
token's results summed. Two launches in the place of some ten: small ones count where a step is a graph.

A pair's place is the number of pairs that come before it: those of lower experts, and those of its own with a
lower number. An expert's end is the number of pairs of it and of lower ones. Each program counts for some of
them by comparing with all pairs: no sort, no atomics, one order.

Suffixes of shapes: T tokens, k experts of a token, P = k T pairs, X experts, E columns, L pairs and experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

import triton
import triton.language as tl

from quire_kernels.triton.checks import check_dtype, check_float, check_rows, check_shape
from quire_kernels.triton.launch import ELEMENTS_PER_PROGRAM, Architecture, Launch
from quire_kernels.triton.variants import Variant

if TYPE_CHECKING:
    from torch import Tensor

MOST_PAIRS = 8192
"""With more, a sort has less to do: the work grows with their square. Reckoned, not measured."""


def sort_pairs(chosen_Tk: Tensor, tokens_P: Tensor, places_Tk: Tensor, ends_X: Tensor) -> None:
    """Pairs by expert, then by token: writes the token of each place, the place of each pair, and the place
    after the last pair of each expert. `chosen_Tk` is below X everywhere.
    """
    import torch

    tokens, per_token = chosen_Tk.shape
    (experts,) = ends_X.shape
    check_dtype("chosen_Tk", chosen_Tk, torch.int64)
    check_shape("tokens_P", tokens_P, tokens * per_token)
    check_shape("places_Tk", places_Tk, tokens, per_token)
    for name, tensor in (("tokens_P", tokens_P), ("places_Tk", places_Tk), ("ends_X", ends_X)):
        check_dtype(name, tensor, torch.int32)
    for name, tensor in (("chosen_Tk", chosen_Tk), ("places_Tk", places_Tk)):
        if not tensor.is_contiguous():
            raise ValueError(f"{name} has strides {tensor.stride()}; it must be contiguous")
    check_rows("tokens_P", tokens_P)
    check_rows("ends_X", ends_X)
    launch = launch_sort_pairs()
    pairs = tokens * per_token
    sort_pairs_kernel[(triton.cdiv(pairs + experts, launch.constants["TILE_L"]),)](
        chosen_Tk, tokens_P, places_Tk, ends_X, pairs, experts, per_token, **launch.keywords()
    )


def sum_pairs(y_PE: Tensor, places_Tk: Tensor, shares_Tk: Tensor, out_TE: Tensor) -> None:
    """out[t] = the sum over i of shares[t, i] * y[places[t, i]], in that order, in float32, rounded once."""
    import torch

    tokens, per_token = places_Tk.shape
    columns = out_TE.shape[1]
    check_float("y_PE", y_PE)
    check_shape("y_PE", y_PE, tokens * per_token, columns)
    check_shape("shares_Tk", shares_Tk, tokens, per_token)
    check_shape("out_TE", out_TE, tokens, columns)
    check_dtype("places_Tk", places_Tk, torch.int32, torch.int64)
    check_dtype("shares_Tk", shares_Tk, torch.float32)
    check_dtype("out_TE", out_TE, y_PE.dtype)
    for name, tensor in (
        ("y_PE", y_PE),
        ("places_Tk", places_Tk),
        ("shares_Tk", shares_Tk),
        ("out_TE", out_TE),
    ):
        check_rows(name, tensor)
    if tokens == 0:
        return
    launch = launch_sum_pairs()
    sum_pairs_kernel[(tokens, triton.cdiv(columns, launch.constants["TILE_E"]))](
        y_PE,
        places_Tk,
        shares_Tk,
        out_TE,
        per_token,
        columns,
        y_PE.stride(0),
        places_Tk.stride(0),
        shares_Tk.stride(0),
        out_TE.stride(0),
        **launch.keywords(),
    )


@cache
def launch_sort_pairs() -> Launch:
    """TILE_L places or ends a program, compared with TILE_P pairs at a time."""
    return Launch(constants={"TILE_L": 32, "TILE_P": 128}, num_warps=4)


@cache
def launch_sum_pairs() -> Launch:
    """TILE_E columns of one token a program."""
    return Launch(constants={"TILE_E": ELEMENTS_PER_PROGRAM}, num_warps=4)


@triton.jit(do_not_specialize=["pairs", "experts", "per_token"])
def sort_pairs_kernel(
    chosen,
    tokens,
    places,
    ends,
    pairs,
    experts,
    per_token,
    TILE_L: tl.constexpr,
    TILE_P: tl.constexpr,
):
    """Grid (tiles of pairs and, after the last of them, experts)."""
    lane_L = tl.program_id(0) * TILE_L + tl.arange(0, TILE_L)
    is_pair_L = lane_L < pairs
    own_L = tl.load(chosen + lane_L, mask=is_pair_L, other=0).to(tl.int32)
    expert_L = tl.where(is_pair_L, own_L, lane_L - pairs)
    before_L = tl.minimum(lane_L, pairs)  # pairs of the same expert below this number count
    count_L = tl.zeros([TILE_L], dtype=tl.int32)
    for start in range(0, pairs, TILE_P):
        pair_P = start + tl.arange(0, TILE_P)
        other_P = tl.load(chosen + pair_P, mask=pair_P < pairs, other=experts).to(tl.int32)
        lower_LP = other_P[None, :] < expert_L[:, None]
        same_LP = (other_P[None, :] == expert_L[:, None]) & (pair_P[None, :] < before_L[:, None])
        count_L += tl.sum((lower_LP | same_LP).to(tl.int32), 1)
    tl.store(places + lane_L, count_L, mask=is_pair_L)
    tl.store(tokens + count_L, lane_L // per_token, mask=is_pair_L)
    tl.store(ends + lane_L - pairs, count_L, mask=(lane_L >= pairs) & (lane_L < pairs + experts))


@triton.jit(do_not_specialize=["per_token", "stride_places", "stride_shares"])
def sum_pairs_kernel(
    y,
    places,
    shares,
    out,
    per_token,
    columns,
    stride_y,
    stride_places,
    stride_shares,
    stride_out,
    TILE_E: tl.constexpr,
):
    """Grid (tokens, tiles of TILE_E columns)."""
    token = tl.program_id(0).to(tl.int64)
    column_E = tl.program_id(1) * TILE_E + tl.arange(0, TILE_E)
    inside_E = column_E < columns
    sum_E = tl.zeros([TILE_E], dtype=tl.float32)
    for index in range(per_token):
        place = tl.load(places + token * stride_places + index).to(tl.int64)
        share = tl.load(shares + token * stride_shares + index)
        sum_E += share * tl.load(y + place * stride_y + column_E, mask=inside_E, other=0.0).to(tl.float32)
    tl.store(out + token * stride_out + column_E, sum_E.to(out.dtype.element_ty), mask=inside_E)


def variants(architecture: Architecture) -> Iterator[Variant]:
    """The same on every architecture."""
    del architecture
    yield Variant(
        name="sort-pairs",
        kernel=sort_pairs_kernel,
        types={
            "chosen": "*i64",
            **dict.fromkeys(("tokens", "places", "ends"), "*i32"),
            **dict.fromkeys(("pairs", "experts", "per_token"), "i32"),
        },
        launch=launch_sort_pairs(),
    )
    for dtype, places in (("bf16", "i32"), ("fp32", "i32"), ("bf16", "i64")):
        yield Variant(
            name=f"sum-pairs-{dtype}" + ("" if places == "i32" else f"-{places}"),
            kernel=sum_pairs_kernel,
            types={
                "y": f"*{dtype}",
                "places": f"*{places}",
                "shares": "*fp32",
                "out": f"*{dtype}",
                **dict.fromkeys(("per_token", "stride_places", "stride_shares"), "i32"),
            },
            launch=launch_sum_pairs(),
            unaligned=frozenset({"stride_places", "stride_shares"}),
            aligned=frozenset({"columns"}),
        )
