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

# By architecture and name. In all of these the assembler stops at 64, 80 or 168 registers, which keeps more
# programs on a processor, or at the 255 that there are, and spills two to eight values.
_SCRATCH_ALLOWED = {
    ("sm_80", "unified-fp16-d64-g4-b128-e4m3"): 32,
    ("sm_80", "unified-fp32-d80-g4-int8"): 16,
    ("sm_86", "unified-fp16-d128-g4-window-softcap-sinks-lse"): 24,
    ("sm_86", "split-fp32-d256-g4-b128-int8"): 8,
    ("sm_90", "unified-fp32-d80-g4"): 8,
    ("sm_90", "unified-fp32-d96-g4"): 8,
    ("sm_90", "unified-fp16-d256-g4-int8"): 32,
    ("sm_90", "split-fp32-d80-g4-int8"): 8,
    ("sm_90", "split-fp32-d128-g4-b32-e4m3"): 8,
}


# Caches of 8 bits: each code with each head dimension and with each type, in blocks of all sizes. These cover
# the ways in which a kernel is put together; they are not all that a model may ask for.
EIGHT_BITS = (
    ("bf16", 128, 16, "int8"),
    ("bf16", 128, 16, "e4m3"),
    ("bf16", 64, 32, "int8"),
    ("bf16", 80, 64, "e4m3"),
    ("bf16", 96, 128, "int8"),
    ("bf16", 256, 64, "e4m3"),
    ("fp16", 64, 128, "e4m3"),
    ("fp16", 96, 32, "e4m3"),
    ("fp16", 128, 64, "int8"),
    ("fp16", 256, 16, "int8"),
    ("fp32", 80, 16, "int8"),
    ("fp32", 128, 32, "e4m3"),
    ("fp32", 256, 128, "int8"),
)


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
    # ALiBi, whose models share no keys: BLOOM-560m and Falcon-RW, BTLM, MPT-7B; and with all that there is.
    rest = {"window": "i32", "softcap": "fp32", "sinks": "*fp32", "lse": "*fp32"}
    for dtype, head_dim, options in (
        ("bf16", 64, {}),
        ("fp16", 64, {}),
        ("bf16", 80, {}),
        ("bf16", 128, {}),
        ("fp16", 128, rest),
    ):
        for make in (_unified, _split):
            yield make(architecture, dtype=dtype, head_dim=head_dim, group=1, alibi="*fp32", **options)
    yield _split(architecture, dtype="bf16", head_dim=128, group=8, max_query_len=4, code="int8")
    for dtype, head_dim, block_size, code in EIGHT_BITS:
        for make in (_unified, _split):
            yield make(architecture, dtype=dtype, head_dim=head_dim, block_size=block_size, code=code)


def _unified(
    architecture: Architecture,
    *,
    dtype: str,
    head_dim: int,
    group: int = 4,
    block_size: int = 16,
    code: str | None = None,
    **options: str,
) -> Variant:
    """`code` is what the cache holds where that is 8 bits."""
    marks = _marks(block_size, code)
    name = "-".join(["unified", dtype, f"d{head_dim}", f"g{group}", *marks, *options])
    return Variant(
        name=name,
        kernel=attention_unified_kernel,
        types={**_attention_types(dtype, code, options), "out": f"*{dtype}", "sequences": "i32"},
        launch=_launch(architecture, dtype, head_dim, group, block_size, code, max_query_len=512),
        unaligned=_UNALIGNED,
        scratch_allowed=_SCRATCH_ALLOWED.get((architecture.name, name), 0),
    )


def _split(
    architecture: Architecture,
    *,
    dtype: str,
    head_dim: int,
    group: int = 4,
    block_size: int = 16,
    max_query_len: int = 1,
    code: str | None = None,
    **options: str,
) -> Variant:
    """With sinks as one program a sequence, which writes the output; otherwise as one of several shares."""
    shared = "sinks" not in options
    marks = [*([f"q{max_query_len}"] if max_query_len > 1 else []), *_marks(block_size, code)]
    types = {**_attention_types(dtype, code, options), "out": "*fp32" if shared else f"*{dtype}"}
    if shared:
        types["lse"] = "*fp32"
    name = "-".join(["split", dtype, f"d{head_dim}", f"g{group}", *marks, *options])
    return Variant(
        name=name,
        kernel=attention_split_kernel,
        types=types,
        launch=_launch(architecture, dtype, head_dim, group, block_size, code, max_query_len=max_query_len),
        unaligned=_UNALIGNED,
        scratch_allowed=_SCRATCH_ALLOWED.get((architecture.name, name), 0),
    )


def _marks(block_size: int, code: str | None) -> list[str]:
    """What a name says of the cache, where it is not of the model's type in blocks of 16."""
    return [*([f"b{block_size}"] if block_size != 16 else []), *([code] if code else [])]


def _attention_types(dtype: str, code: str | None, options: dict[str, str]) -> dict[str, str | None]:
    """The arguments that both attention kernels have."""
    return {
        "q": f"*{dtype}",
        **cache_types(dtype, code),
        **dict.fromkeys(("tables", "query_starts", "seq_lens"), "*i32"),
        **dict.fromkeys(("sinks", "lse", "window", "softcap", "alibi")),
        "scale": "fp32",
        **options,
    }


def _launch(
    architecture: Architecture,
    dtype: str,
    head_dim: int,
    group: int,
    block_size: int,
    code: str | None,
    *,
    max_query_len: int,
) -> Launch:
    itemsize = 4 if dtype == "fp32" else 2
    return launch_attention(
        architecture,
        itemsize=itemsize,
        cache_itemsize=1 if code else itemsize,
        head_dim=head_dim,
        block_size=block_size,
        group=group,
        max_query_len=max_query_len,
    )
