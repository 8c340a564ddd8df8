"""The kernel variants that are compiled ahead of time: those that models ask for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from quire_kernels.triton import launch
from quire_kernels.triton.launch import Architecture, Launch


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One kernel with the types of its arguments and its launch configuration.

    `types` gives Triton's name of a parameter's type, or None where None is passed. The parameters that it
    leaves out are compile-time constants, if the launch has them, and strides otherwise.
    """

    name: str
    module: str
    kernel: str
    types: dict[str, str | None]
    launch: Launch


def variants(architecture: Architecture) -> list[Variant]:
    """All variants, with the launch configurations of one architecture."""
    return [*_attention_variants(architecture), *_other_variants()]


def _attention_variants(architecture: Architecture) -> Iterator[Variant]:
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


def _unified(
    architecture: Architecture, *, dtype: str, head_dim: int, group: int = 4, **options: str
) -> Variant:
    return Variant(
        name="-".join(["unified", dtype, f"d{head_dim}", f"g{group}", *options]),
        module="attention_unified",
        kernel="attention_unified_kernel",
        types={**_attention_types(dtype, options), "out": f"*{dtype}", "sequences": "i32"},
        launch=_attention_launch(architecture, dtype, head_dim, group, max_query_len=512),
    )


def _split(
    architecture: Architecture,
    *,
    dtype: str,
    head_dim: int,
    group: int = 4,
    max_query_len: int = 1,
    **options: str,
) -> Variant:
    """With sinks as one program a sequence, which writes the output; otherwise as one of several shares."""
    shared = "sinks" not in options
    rows = [f"q{max_query_len}"] if max_query_len > 1 else []
    types = {**_attention_types(dtype, options), "out": "*fp32" if shared else f"*{dtype}"}
    if shared:
        types["lse"] = "*fp32"
    return Variant(
        name="-".join(["split", dtype, f"d{head_dim}", f"g{group}", *rows, *options]),
        module="attention_split",
        kernel="attention_split_kernel",
        types=types,
        launch=_attention_launch(architecture, dtype, head_dim, group, max_query_len=max_query_len),
    )


def _attention_types(dtype: str, options: dict[str, str]) -> dict[str, str | None]:
    """The arguments that both attention kernels have."""
    return {
        **dict.fromkeys(("q", "k_cache", "v_cache"), f"*{dtype}"),
        **dict.fromkeys(("tables", "query_starts", "seq_lens"), "*i32"),
        **dict.fromkeys(("sinks", "lse", "window", "softcap")),
        "scale": "fp32",
        **options,
    }


def _attention_launch(
    architecture: Architecture, dtype: str, head_dim: int, group: int, *, max_query_len: int
) -> Launch:
    itemsize = 4 if dtype == "fp32" else 2
    return launch.attention(
        architecture,
        itemsize=itemsize,
        head_dim=head_dim,
        block_size=16,
        group=group,
        max_query_len=max_query_len,
    )


def _other_variants() -> Iterator[Variant]:
    merged = {"partial_out": "*fp32", "partial_lse": "*fp32", "query_starts": "*i32"}
    counts = {"sequences": "i32", "shares": "i32"}
    for dtype, head_dim, options in (("bf16", 128, {}), ("fp32", 80, {"sinks": "*fp32", "lse": "*fp32"})):
        yield Variant(
            name=f"merge-{dtype}-d{head_dim}",
            module="attention_split",
            kernel="attention_merge_kernel",
            types={**merged, **counts, "out": f"*{dtype}", "sinks": None, "lse": None, **options},
            launch=launch.attention_merge(head_dim=head_dim),
        )
    for dtype, head_dim in (("bf16", 128), ("fp32", 80)):
        yield Variant(
            name=f"store-{dtype}-d{head_dim}",
            module="cache",
            kernel="store_kv_kernel",
            types={
                **dict.fromkeys(("k", "v", "k_cache", "v_cache"), f"*{dtype}"),
                "slots": "*i64",
                "kv_heads": "i32",
                "block_size": "i32",
            },
            launch=launch.store_kv(kv_heads=8, head_dim=head_dim),
        )
    for dtype, size, residual in (("bf16", 128, None), ("bf16", 4096, "*bf16"), ("fp32", 16384, "*fp32")):
        yield Variant(
            name=f"norm-{dtype}-e{size}",
            module="norm",
            kernel="rms_norm_kernel",
            types={
                **dict.fromkeys(("x", "weight", "out"), f"*{dtype}"),
                "residual": residual,
                **dict.fromkeys(("rows", "inner"), "i32"),
                "eps": "fp32",
            },
            launch=launch.rms_norm(size=size, unit_offset=residual is None),
        )
    for dtype, rotated, interleaved in (("bf16", 128, False), ("fp32", 64, True)):
        yield Variant(
            name=f"rotary-{dtype}-r{rotated}",
            module="rotary",
            kernel="rotary_kernel",
            types={
                **dict.fromkeys(("q", "k"), f"*{dtype}"),
                "positions": "*i64",
                "cos_sin": "*fp32",
                "heads": "i32",
                "kv_heads": "i32",
            },
            launch=launch.rotary(rotated=rotated, heads=32, interleaved=interleaved),
        )
    for dtype, silu in (("bf16", True), ("fp32", False)):
        yield Variant(
            name=f"act-{dtype}-{'silu' if silu else 'gelu'}",
            module="activation",
            kernel="act_mul_kernel",
            types={"gate_up": f"*{dtype}", "out": f"*{dtype}", "size": "i32"},
            launch=launch.act_mul(silu=silu),
        )
