"""What `sample_tokens` would not keep, barred from rows of logits: for those who draw in another way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import triton
import triton.language as tl

from quire_kernels.triton.checks import check_sampling
from quire_kernels.triton.sampling import launch_sample_tokens
from quire_kernels.triton.sampling_search import find_extremes, find_kept, load_logits, weigh
from quire_kernels.triton.variants import Variant

if TYPE_CHECKING:
    from torch import Tensor


def filter_tokens(
    logits_RV: Tensor, *, temperatures_R: Tensor, top_ks_R: Tensor, top_ps_R: Tensor, min_ps_R: Tensor
) -> None:
    """Changes the logits in place; see `quire_kernels`."""
    import torch

    parameters = {
        "temperatures_R": (temperatures_R, torch.float32),
        "top_ks_R": (top_ks_R, torch.int32),
        "top_ps_R": (top_ps_R, torch.float64),
        "min_ps_R": (min_ps_R, torch.float64),
    }
    check_sampling(logits_RV, parameters)
    rows, vocab = logits_RV.shape
    if rows == 0:
        return
    filter_tokens_kernel[(rows,)](
        logits_RV,
        *(tensor for tensor, _ in parameters.values()),
        vocab,
        logits_RV.stride(0),
        **launch_sample_tokens().keywords(),
    )


@triton.jit
def filter_tokens_kernel(
    logits,
    temperatures,
    top_ks,
    top_ps,
    min_ps,
    vocab,
    stride_logits,
    TILE_V: tl.constexpr,
):
    """Grid (rows)."""
    r = tl.program_id(0)
    temperature = tl.load(temperatures + r)
    top_k = tl.load(top_ks + r)
    top_p = tl.load(top_ps + r)
    min_p = tl.load(min_ps + r)
    if (temperature == 0.0) | ((top_k >= vocab) & (top_p >= 1.0) & (min_p <= 0.0)):
        return

    row = logits + r.to(tl.int64) * stride_logits
    peak, _, low = find_extremes(row, vocab, TILE_V)
    least_logit, border, border_left = find_kept(
        row, vocab, low, peak, temperature, top_k, top_p, min_p, TILE_V
    )
    for first in range(0, vocab, TILE_V):
        token_V, logit_V = load_logits(row, first, vocab, TILE_V)
        weight_V = weigh(logit_V, peak, temperature, least_logit)
        at_border_V = (weight_V == border).to(tl.int32)
        early_V = (at_border_V > 0) & (tl.cumsum(at_border_V, 0) <= border_left)
        kept_V = (weight_V > 0) & ((weight_V > border) | early_V)
        barred_V = tl.full([TILE_V], float("-inf"), tl.float32)
        tl.store(row + token_V, barred_V, mask=(token_V < vocab) & ~kept_V)
        border_left -= tl.sum(at_border_V, 0)


def filter_variants() -> Iterator[Variant]:
    """One for all vocabularies and architectures."""
    yield Variant(
        name="filter-tokens",
        kernel=filter_tokens_kernel,
        types={
            **dict.fromkeys(("logits", "temperatures"), "*fp32"),
            "top_ks": "*i32",
            **dict.fromkeys(("top_ps", "min_ps"), "*fp64"),
            "vocab": "i32",
        },
        launch=launch_sample_tokens(),
        unaligned=frozenset({"stride_logits"}),
    )
