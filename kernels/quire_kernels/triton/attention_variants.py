"""The attention kernels' variants that are compiled ahead of time."""

from __future__ import annotations

from collections.abc import Iterator

from quire_kernels.triton.attention_launch import launch_attention
from quire_kernels.triton.attention_split import attention_split_kernel
from quire_kernels.triton.attention_unified import attention_unified_kernel
from quire_kernels.triton.codes import cache_types
from quire_kernels.triton.launch import Architecture, Launch
from quire_kernels.triton.variants import Variant

# Strides of lse and of the block tables are as odd as the number of heads and the longest table.
_UNALIGNED = frozenset({"stride_table", "stride_lse", "stride_lse_token", "stride_lse_head"})

# By architecture and name. In all of these the assembler stops at 80 or 168 registers, which keeps three
# programs on a processor, and spills two to six values.
_SCRATCH_ALLOWED = {
    ("sm_86", "unified-fp16-d128-g4-window-softcap-sinks-lse"): 24,
    ("sm_90", "unified-fp32-d80-g4"): 8,
    ("sm_90", "unified-fp32-d96-g4"): 8,
}


def variants(architecture: Architecture) -> Iterator[Variant]:
    """Both attention kernels."""
    for head_dim in (64, 80, 96, 128, 256):
        for dtype in ("bf16", "fp32"):
            yield _unified(architecture, dtype=dtype, head_dim=head_dim)
            yield _split(architecture, dtype=dtype, head_dim=head_dim)
    # Llama-135M's odd group, a small test model's head, Gemma 2, Gemma 3, gpt-oss, and everything at once.
    for options in (
        {"head_dim": 64, "group": 3},
        {"head_dim": 32, "group": 1},
        {"head_dim": 256, "group": 2, "window": "i32", "softcap": "fp32"},
        {"head_dim": 256, "group": 2, "window": "i32"},
        {"head_dim": 64, "group": 8, "window": "i32", "sinks": "*fp32"},
        {"head_dim": 128, "window": "i32", "softcap": "fp32", "sinks": "*fp32", "lse": "*fp32"},
    ):
        yield _unified(architecture, dtype="fp16", **options)
        yield _split(architecture, dtype="fp16", **options)
    # Drafts: the largest tile that still counts as decoding.
    for dtype in ("bf16", "fp32"):
        for head_dim in (128, 256):
            yield _split(architecture, dtype=dtype, head_dim=head_dim, group=8, max_query_len=4)
    for code in ("int8", "e4m3"):
        yield _unified(architecture, dtype="bf16", head_dim=128, code=code)
        yield _split(architecture, dtype="bf16", head_dim=128, code=code)


def _unified(
    architecture: Architecture,
    *,
    dtype: str,
    head_dim: int,
    group: int = 4,
    code: str | None = None,
    **options: str,
) -> Variant:
    """`code` is what the cache holds where that is 8 bits."""
    name = "-".join(["unified", dtype, f"d{head_dim}", f"g{group}", *([code] if code else []), *options])
    return Variant(
        name=name,
        kernel=attention_unified_kernel,
        types={**_attention_types(dtype, code, options), "out": f"*{dtype}", "sequences": "i32"},
        launch=_launch(architecture, dtype, head_dim, group, max_query_len=512),
        unaligned=_UNALIGNED,
        scratch_allowed=_SCRATCH_ALLOWED.get((architecture.name, name), 0),
    )


def _split(
    architecture: Architecture,
    *,
    dtype: str,
    head_dim: int,
    group: int = 4,
    max_query_len: int = 1,
    code: str | None = None,
    **options: str,
) -> Variant:
    """With sinks as one program a sequence, which writes the output; otherwise as one of several shares."""
    shared = "sinks" not in options
    marks = [*([f"q{max_query_len}"] if max_query_len > 1 else []), *([code] if code else [])]
    types = {**_attention_types(dtype, code, options), "out": "*fp32" if shared else f"*{dtype}"}
    if shared:
        types["lse"] = "*fp32"
    return Variant(
        name="-".join(["split", dtype, f"d{head_dim}", f"g{group}", *marks, *options]),
        kernel=attention_split_kernel,
        types=types,
        launch=_launch(architecture, dtype, head_dim, group, max_query_len=max_query_len),
        unaligned=_UNALIGNED,
    )


def _attention_types(dtype: str, code: str | None, options: dict[str, str]) -> dict[str, str | None]:
    """The arguments that both attention kernels have."""
    return {
        "q": f"*{dtype}",
        **cache_types(dtype, code),
        **dict.fromkeys(("tables", "query_starts", "seq_lens"), "*i32"),
        **dict.fromkeys(("sinks", "lse", "window", "softcap")),
        "scale": "fp32",
        **options,
    }


def _launch(
    architecture: Architecture, dtype: str, head_dim: int, group: int, *, max_query_len: int
) -> Launch:
    itemsize = 4 if dtype == "fp32" else 2
    return launch_attention(
        architecture,
        itemsize=itemsize,
        head_dim=head_dim,
        block_size=16,
        group=group,
        max_query_len=max_query_len,
    )
