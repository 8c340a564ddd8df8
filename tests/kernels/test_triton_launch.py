"""What the Triton host functions ask the compiler for, decided without a GPU: nothing is launched here.

`pretended_gpu` says how. A host function that read a tensor, which on a GPU waits for it and cannot be
captured in a CUDA graph, would fail.
"""

import importlib.util
import subprocess
import sys

import pytest
import torch

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

from pretended_gpu import pretend_gpu

from quire_kernels import triton as kernels
from quire_kernels.triton import launch
from quire_kernels.triton.attention_launch import attention_shares
from quire_kernels.triton.attention_variants import EIGHT_BITS
from quire_kernels.triton.compile_all import specialize
from quire_kernels.triton.grouped import launch_grouped
from quire_kernels.triton.groupwise import groupwise_linear
from quire_kernels.triton.gumbel import vocabulary_parts
from quire_kernels.triton.launch import ARCHITECTURES
from quire_kernels.triton.mla import mla_shares
from quire_kernels.triton.variants import variants

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
CODES = {"int8": torch.int8, "e4m3": torch.float8_e4m3fn}


class Compiler:
    """Notes what it is asked to compile, and compares it with the variants compiled ahead of time."""

    def __init__(self, architecture: launch.Architecture) -> None:
        self.architecture = architecture
        self.variants = {
            variant.name: variant for family in variants(architecture).values() for variant in family
        }
        self.asked: list[dict] = []

    def note(self, *, compile: dict, **_: object) -> bool:
        self.asked.append(compile)
        return True  # that is, don't compile

    def check_asked_for(self, *names: str, others: int = 0) -> None:
        """Exactly these variants were asked for, in this order; then `others`, listed or not."""
        assert len(self.asked) == len(names) + others
        for compile, name in zip(self.asked, names, strict=False):
            variant = self.variants[name]
            parameters = variant.kernel.arg_names
            expected = specialize(variant)
            constants = {parameters[index]: value for (index,), value in compile["constants"].items()}
            # An integer that is 1 becomes a constant; the variants leave all of them open.
            ones = {key for key, value in constants.items() if value == 1 and key not in expected.constants}
            signature = {key: "i32" if key in ones else type_ for key, type_ in compile["signature"].items()}
            aligned = {parameters[index] for (index,), given in compile["configs"][0].items() if given}
            assert signature == expected.signature
            assert {key: value for key, value in constants.items() if key not in ones} == expected.constants
            assert aligned >= set(expected.aligned) - ones
            assert {
                option: compile[option] for option in variant.launch.options()
            } == variant.launch.options()


@pytest.fixture(params=ARCHITECTURES)
def compiler(request, monkeypatch):
    compiler = Compiler(ARCHITECTURES[request.param])
    pretend_gpu(monkeypatch, request.param, compiler.note)
    return compiler


def meta(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def scales(kv_heads: int, block_size: int = 16) -> dict[str, torch.Tensor]:
    """Those of a cache in 8 bits."""
    names = ("k_scales_NKB", "v_scales_NKB")
    return {name: meta(64, kv_heads, block_size, dtype=torch.float32) for name in names}


def attend(
    queries: list[int],
    lengths: list[int],
    *,
    dtype: torch.dtype,
    heads: int,
    kv_heads: int,
    head_dim: int,
    window: int | None = None,
    softcap: float | None = None,
    sinks: bool = False,
    alibi: bool = False,
    lse: bool = False,
    block_size: int = 16,
    kept: torch.dtype | None = None,
) -> None:
    """A planned call on tensors without data, with q a slice of a merged projection."""
    tokens, sequences = sum(queries), len(queries)
    merged = meta(tokens, heads + 2 * kv_heads, head_dim, dtype=dtype)
    caches = [meta(64, kv_heads, block_size, head_dim, dtype=kept or dtype) for _ in range(2)]
    kernels.paged_attention(
        merged[:, :heads],
        *caches,
        meta(sequences, 40, dtype=torch.int32),
        meta(sequences + 1, dtype=torch.int32),
        meta(sequences, dtype=torch.int32),
        meta(tokens, heads, head_dim, dtype=dtype),
        scale=head_dim**-0.5,
        window=window,
        softcap=softcap,
        alibi_slopes_H=meta(heads, dtype=torch.float32) if alibi else None,
        sinks_H=meta(heads, dtype=torch.float32) if sinks else None,
        lse_TH=meta(tokens, heads, dtype=torch.float32) if lse else None,
        **(scales(kv_heads, block_size) if kept else {}),
        plan=kernels.plan_attention(
            torch.tensor([0, *queries]).cumsum(0),
            torch.tensor(lengths),
            heads=heads,
            kv_heads=kv_heads,
            block_size=block_size,
            window=window,
        ),
    )


@pytest.mark.parametrize("head_dim", [64, 80, 96, 128, 256])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_a_step_with_a_prefill_takes_the_unified_kernel(compiler, dtype, head_dim):
    attend([512, 1, 3], [600, 9, 4], dtype=TYPES[dtype], heads=8, kv_heads=2, head_dim=head_dim)
    compiler.check_asked_for(f"unified-{dtype}-d{head_dim}-g4")


def test_the_unified_kernel_gets_its_options(compiler):
    options = {"window": 100, "softcap": 30.0, "sinks": True, "lse": True}
    attend([512], [512], dtype=torch.float16, heads=8, kv_heads=2, head_dim=128, **options)
    compiler.check_asked_for("unified-fp16-d128-g4-window-softcap-sinks-lse")


@pytest.mark.parametrize(("dtype", "head_dim"), [("bf16", 64), ("fp16", 64), ("bf16", 80), ("bf16", 128)])
def test_alibi(compiler, dtype, head_dim):
    shape = {"dtype": TYPES[dtype], "heads": 16, "kv_heads": 16, "head_dim": head_dim, "alibi": True}
    attend([512, 1], [512, 700], **shape)
    attend([1], [30_000], **shape)
    name = f"{dtype}-d{head_dim}-g1-alibi"
    compiler.check_asked_for(f"unified-{name}", f"split-{name}", others=1)


def test_alibi_with_all_other_options(compiler):
    options = {"window": 100, "softcap": 30.0, "sinks": True, "lse": True, "alibi": True}
    shape = {"dtype": torch.float16, "heads": 16, "kv_heads": 16, "head_dim": 128}
    attend([512], [512], **shape, **options)
    attend([1], [512], **shape, **options)
    name = "fp16-d128-g1-alibi-window-softcap-sinks-lse"
    compiler.check_asked_for(f"unified-{name}", f"split-{name}")


def test_decoding_a_few_long_sequences_shares_their_keys_and_merges(compiler):
    attend([1, 1], [600, 30_000], dtype=torch.bfloat16, heads=8, kv_heads=2, head_dim=128)
    compiler.check_asked_for("split-bf16-d128-g4", "merge-shares-bf16-d128")


def test_decoding_within_a_window_shares_no_keys(compiler):
    attend([1], [30_000], dtype=torch.float16, heads=16, kv_heads=2, head_dim=64, window=128, sinks=True)
    compiler.check_asked_for("split-fp16-d64-g8-window-sinks")


@pytest.mark.parametrize(("kept", "name"), [(torch.int8, "int8"), (torch.float8_e4m3fn, "e4m3")])
def test_a_cache_of_eight_bits(compiler, kept, name):
    shape = {"dtype": torch.bfloat16, "heads": 8, "kv_heads": 2, "head_dim": 128}
    attend([512], [512], kept=kept, **shape)
    attend([1], [30_000], kept=kept, **shape)
    k_TKD, v_TKD = (meta(3, 8, 128, dtype=torch.bfloat16) for _ in range(2))
    caches = [meta(64, 8, 16, 128, dtype=kept) for _ in range(2)]
    kernels.store_kv(k_TKD, v_TKD, *caches, meta(3, dtype=torch.int64), **scales(8))
    compiler.check_asked_for(
        f"unified-bf16-d128-g4-{name}",
        f"split-bf16-d128-g4-{name}",
        "merge-shares-bf16-d128",
        f"store-bf16-d128-{name}",
    )


@pytest.mark.parametrize(("dtype", "head_dim", "block_size", "code"), EIGHT_BITS)
def test_a_cache_of_eight_bits_for_any_model(compiler, dtype, head_dim, block_size, code):
    shape = {"dtype": TYPES[dtype], "heads": 8, "kv_heads": 2, "head_dim": head_dim}
    cache = {"kept": CODES[code], "block_size": block_size}
    attend([512], [512], **shape, **cache)
    attend([1], [30_000], **shape, **cache)
    block = f"b{block_size}-" if block_size != 16 else ""
    name = f"{dtype}-d{head_dim}-g4-{block}{code}"
    compiler.check_asked_for(f"unified-{name}", f"split-{name}", others=1)


def test_drafts_count_as_decoding(compiler):
    attend([4, 1], [30_000, 8], dtype=torch.bfloat16, heads=16, kv_heads=2, head_dim=128)
    compiler.check_asked_for("split-bf16-d128-g8-q4", "merge-shares-bf16-d128")


def test_drafts_over_eight_bits(compiler):
    shape = {"dtype": torch.bfloat16, "heads": 16, "kv_heads": 2, "head_dim": 128}
    attend([4, 1], [30_000, 8], kept=torch.int8, **shape)
    compiler.check_asked_for("split-bf16-d128-g8-q4-int8", "merge-shares-bf16-d128")


@pytest.mark.parametrize(
    ("dtype", "latent_dim", "heads", "length", "names"),
    [
        ("bf16", 512, 16, 30_000, ["mla-bf16-d512-r64-h16-shares", "merge-shares-bf16-d512"]),
        ("bf16", 512, 128, 30_000, ["mla-bf16-d512-r64-h128-shares", "merge-shares-bf16-d512"]),
        ("fp16", 256, 40, 700, ["mla-fp16-d256-r64-h40"]),
    ],
)
def test_decoding_over_latents(compiler, dtype, latent_dim, heads, length, names):
    dtype = TYPES[dtype]
    kernels.mla_decode(
        meta(2, heads, latent_dim + 64, dtype=dtype),
        meta(64, 16, latent_dim + 64, dtype=dtype),
        meta(2, 40, dtype=torch.int32),
        meta(3, dtype=torch.int32),
        meta(2, dtype=torch.int32),
        meta(2, heads, latent_dim, dtype=dtype),
        scale=0.1,
        plan=kernels.plan_attention(
            torch.tensor([0, 1, 2]), torch.tensor([5, length]), heads=heads, kv_heads=1, block_size=16
        ),
    )
    compiler.check_asked_for(*names)


@pytest.mark.parametrize(("dtype", "width"), [("bf16", 576), ("fp32", 288)])
def test_latents_are_stored(compiler, dtype, width):
    rows_TW, cache_NBW = meta(3, width, dtype=TYPES[dtype]), meta(64, 16, width, dtype=TYPES[dtype])
    kernels.store_latents(rows_TW, cache_NBW, meta(3, dtype=torch.int64))
    compiler.check_asked_for(f"latents-{dtype}-w{width}")


@pytest.mark.parametrize(
    ("dtype", "head_dim", "heads", "rest", "sequences", "marks"),
    [
        ("bf16", 128, 32, False, 2, ("g4", "g4")),
        ("bf16", 64, 32, False, 2, ("g4", "g4")),
        ("fp16", 128, 8, True, 64, ("g1-softcap-alibi", "g1-softcap-alibi-sinks")),
    ],
)
def test_pages_are_bounded_and_chosen(compiler, dtype, head_dim, heads, rest, sequences, marks):
    """Bounds lie behind the rows of keys and of values, as `attention=quest` has them."""
    fp32, i32 = torch.float32, torch.int32
    name, dtype = f"{dtype}-d{head_dim}", TYPES[dtype]
    qkv = meta(sequences, heads + 2 * 8, head_dim, dtype=dtype)
    rows = [meta(64, 17, 8, head_dim, dtype=dtype) for _ in range(2)]
    caches, bounds = [each[:, :-1].transpose(1, 2) for each in rows], [each[:, -1] for each in rows]
    step = (meta(sequences, 301, dtype=i32), meta(sequences, dtype=i32))
    slopes_H, sinks_H = ((meta(heads, dtype=fp32) if rest else None) for _ in range(2))
    options = {"scale": 0.1, "softcap": 30.0 if rest else None, "alibi_slopes_H": slopes_H}
    kernels.store_bounds(
        qkv[:, heads : heads + 8], *bounds, meta(sequences, dtype=torch.int64), block_size=16
    )
    scores_SKP = meta(sequences, 8, 300, dtype=fp32)
    kernels.page_scores(qkv[:, :heads], *bounds, *step, scores_SKP, block_size=16, **options)
    pages_SKJ = scores_SKP.topk(128, sorted=False).indices
    out_SHD = meta(sequences, heads, head_dim, dtype=dtype)
    kernels.attend_pages(qkv[:, :heads], *caches, *step, pages_SKJ, out_SHD, sinks_H=sinks_H, **options)
    merged = 1 if sequences == 2 else 0  # few sequences share out their pages
    compiler.check_asked_for(
        f"bounds-{name}", f"page-scores-{name}-{marks[0]}", f"pages-{name}-{marks[1]}", others=merged
    )


@pytest.mark.parametrize(
    ("parts", "dtype", "head_dim", "sinks", "name"),
    [
        (2, "bf16", 128, False, "merge-states-bf16-d128-lse"),
        (4, "fp16", 64, True, "merge-states-fp16-d64-sinks-lse"),
    ],
)
def test_a_cascade_merges_its_parts(compiler, parts, dtype, head_dim, sinks, name):
    kernels.merge_states(
        meta(parts, 7, 8, head_dim, dtype=TYPES[dtype]),
        meta(parts, 7, 8, dtype=torch.float32),
        meta(7, 8, head_dim, dtype=TYPES[dtype]),
        sinks_H=meta(8, dtype=torch.float32) if sinks else None,
        lse_TH=meta(7, 8, dtype=torch.float32),
    )
    compiler.check_asked_for(name)


def test_latents_are_shared_until_each_processor_has_a_tile():
    h100 = ARCHITECTURES["sm_90"]
    assert mla_shares(h100, sequences=1, tiles=2, max_seq_len=100_000) == 132 // 2
    assert mla_shares(h100, sequences=1, tiles=1, max_seq_len=1100) == 2
    assert mla_shares(h100, sequences=64, tiles=2, max_seq_len=100_000) == 1
    assert mla_shares(h100, sequences=200, tiles=1, max_seq_len=0) == 1


def test_nothing_to_compute_launches_nothing(compiler):
    attend([0, 0], [5, 7], dtype=torch.bfloat16, heads=2, kv_heads=2, head_dim=64)
    attend([], [], dtype=torch.bfloat16, heads=2, kv_heads=2, head_dim=64)
    fp32 = torch.float32
    kernels.merge_states(meta(2, 0, 4, 8, dtype=fp32), meta(2, 0, 4, dtype=fp32), meta(0, 4, 8, dtype=fp32))
    kernels.act_mul(meta(0, 8, dtype=torch.float32), meta(0, 4, dtype=torch.float32), activation="silu")
    compiler.check_asked_for()


def test_elementwise_kernels(compiler):
    bf16, fp32 = torch.bfloat16, torch.float32
    qkv = meta(3, 32 + 2 * 8, 128, dtype=bf16)
    q_THD, k_TKD, v_TKD = qkv.split([32, 8, 8], dim=1)
    k_cache, v_cache = (meta(64, 8, 16, 128, dtype=bf16) for _ in range(2))
    kernels.rms_norm(q_THD, meta(128, dtype=bf16), q_THD, eps=1e-6, unit_offset=True)
    kernels.rotary(q_THD, k_TKD, meta(3, dtype=torch.int64), meta(4096, 128, dtype=fp32))
    kernels.store_kv(k_TKD, v_TKD, k_cache, v_cache, meta(3, dtype=torch.int64))
    x, residual, out = (meta(3, 4096, dtype=bf16) for _ in range(3))
    kernels.rms_norm(x, meta(4096, dtype=bf16), out, eps=1e-6, residual_TE=residual)
    kernels.act_mul(meta(3, 2 * 4096, dtype=bf16), out, activation="silu")
    compiler.check_asked_for(
        "norm-bf16-e128", "rotary-bf16-r128", "store-bf16-d128", "norm-bf16-e4096", "act-bf16-silu"
    )


@pytest.mark.parametrize(
    ("dtype", "head_dim", "rotated", "normed", "unit_offset", "code"),
    [
        ("bf16", 128, 128, False, False, None),
        ("bf16", 128, 128, True, False, None),
        ("bf16", 256, 256, True, True, None),
        ("fp16", 96, 72, False, False, None),
        ("fp32", 64, 64, True, False, None),
        ("bf16", 128, 128, False, False, "int8"),
        ("bf16", 128, 128, True, False, "e4m3"),
        ("bf16", 256, 256, True, True, "int8"),
        ("fp16", 96, 72, False, False, "e4m3"),
        ("fp16", 80, 32, False, False, "int8"),
        ("fp32", 64, 64, True, False, "e4m3"),
    ],
)
def test_the_middle_of_a_layer_is_one_launch(compiler, dtype, head_dim, rotated, normed, unit_offset, code):
    marks = [*(["norm"] if normed else []), *([code] if code else [])]
    name = "-".join(["rotate-store", dtype, f"d{head_dim}", f"r{rotated}", *marks])
    dtype = TYPES[dtype]
    qkv = meta(3, 32 + 2 * 8, head_dim, dtype=dtype)
    caches = [meta(64, 8, 16, head_dim, dtype=CODES.get(code, dtype)) for _ in range(2)]
    weights = [meta(head_dim, dtype=dtype) if normed else None for _ in range(2)]
    kernels.rotate_store_kv(
        *qkv.split([32, 8, 8], dim=1),
        *caches,
        meta(3, dtype=torch.int64),
        meta(3, dtype=torch.int64),
        meta(4096, rotated, dtype=torch.float32),
        q_norm_D=weights[0],
        k_norm_D=weights[1],
        eps=1e-6,
        unit_offset=unit_offset,
        **(scales(8) if code else {}),
    )
    compiler.check_asked_for(name)


@pytest.mark.parametrize(
    ("dtype", "head_dim", "code"),
    [("bf16", 256, "int8"), ("fp16", 64, "e4m3"), ("fp16", 96, "int8"), ("fp32", 80, "e4m3")],
)
def test_a_store_of_eight_bits(compiler, dtype, head_dim, code):
    k_TKD, v_TKD = (meta(3, 8, head_dim, dtype=TYPES[dtype]) for _ in range(2))
    caches = [meta(64, 8, 16, head_dim, dtype=CODES[code]) for _ in range(2)]
    kernels.store_kv(k_TKD, v_TKD, *caches, meta(3, dtype=torch.int64), **scales(8))
    compiler.check_asked_for(f"store-{dtype}-d{head_dim}-{code}")


@pytest.mark.parametrize("vocab", [128256, 50257, 500])
def test_sampling(compiler, vocab):
    kernels.sample_tokens(
        meta(5, vocab, dtype=torch.float32),
        meta(5, dtype=torch.int64),
        temperatures_R=meta(5, dtype=torch.float32),
        top_ks_R=meta(5, dtype=torch.int32),
        top_ps_R=meta(5, dtype=torch.float64),
        min_ps_R=meta(5, dtype=torch.float64),
        seeds_R=meta(5, dtype=torch.int64),
        positions_R=meta(5, dtype=torch.int64),
    )
    compiler.check_asked_for("sample")


def draw_gumbel(rows: int, vocab: int) -> None:
    kernels.gumbel_argmax(
        meta(rows, vocab, dtype=torch.float32),
        meta(rows, dtype=torch.int64),
        temperatures_R=meta(rows, dtype=torch.float32),
        seeds_R=meta(rows, dtype=torch.int64),
        positions_R=meta(rows, dtype=torch.int64),
    )


def test_gumbel_draws_of_few_rows_share_out_their_vocabulary_and_merge(compiler):
    draw_gumbel(2, 128256)
    compiler.check_asked_for("gumbel-argmax-parts", "gumbel-merge")


def test_gumbel_draws_of_many_rows_or_of_a_small_vocabulary_are_one_launch(compiler):
    draw_gumbel(5000, 50257)
    draw_gumbel(1, 500)
    compiler.check_asked_for("gumbel-argmax", "gumbel-argmax")


def test_parts_of_a_vocabulary_fill_the_gpu_and_no_more():
    h100 = ARCHITECTURES["sm_90"]
    assert vocabulary_parts(h100, rows=1, vocab=128256) == 126
    assert vocabulary_parts(h100, rows=64, vocab=128256) == 8 * 132 // 64
    assert vocabulary_parts(h100, rows=1, vocab=4_000_000) == 256
    assert vocabulary_parts(h100, rows=2000, vocab=128256) == 1


def test_filters_of_tokens(compiler):
    kernels.filter_tokens(
        meta(5, 50257, dtype=torch.float32),
        temperatures_R=meta(5, dtype=torch.float32),
        top_ks_R=meta(5, dtype=torch.int32),
        top_ps_R=meta(5, dtype=torch.float64),
        min_ps_R=meta(5, dtype=torch.float64),
    )
    compiler.check_asked_for("filter-tokens")


def test_a_plan_is_for_its_own_step_and_geometry(compiler):
    plan = kernels.plan_attention(torch.tensor([0, 1]), torch.tensor([9]), heads=4, kv_heads=2, block_size=16)
    assert (plan.sequences, plan.max_query_len, plan.max_seq_len) == (1, 1, 9)
    cache = meta(4, 2, 16, 32, dtype=torch.float32)
    integers = [meta(*shape, dtype=torch.int32) for shape in ((1, 3), (2,), (1,))]
    q_THD = meta(1, 4, 32, dtype=torch.float32)
    with pytest.raises(ValueError, match="plan was made for window None, but this call has 8"):
        kernels.paged_attention(q_THD, cache, cache, *integers, q_THD, scale=1.0, window=8, plan=plan)
    q_THD = meta(1, 6, 32, dtype=torch.float32)
    with pytest.raises(ValueError, match="plan was made for heads 4, but this call has 6"):
        kernels.paged_attention(q_THD, cache, cache, *integers, q_THD, scale=1.0, plan=plan)


def test_shares_fill_the_gpu_and_no_more():
    h100 = ARCHITECTURES["sm_90"]
    step = {"kv_heads": 8, "max_query_len": 1, "window": None}
    assert attention_shares(h100, sequences=1, max_seq_len=100_000, **step) == 2 * 132 // 8
    assert attention_shares(h100, sequences=1, max_seq_len=1024, **step) == 4
    assert attention_shares(h100, sequences=64, max_seq_len=100_000, **step) == 1
    assert attention_shares(h100, sequences=1, max_seq_len=0, **step) == 1


def test_importing_the_kernels_imports_no_torch_and_importing_quire_kernels_no_triton():
    """Read by a fresh interpreter; the compile workers start fast because of the former."""
    for module, absent in (("quire_kernels.triton", "torch"), ("quire_kernels", "triton")):
        code = f"import sys, {module}; sys.exit({absent!r} in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0, (module, absent)


@pytest.mark.parametrize(("tokens", "experts"), [(8, 8), (256, 8), (512, 8), (8192, 8), (512, 256)])
def test_experts(compiler, tokens, experts):
    out = meta(tokens, 1536, dtype=torch.bfloat16)
    ends = meta(experts, dtype=torch.int32)
    kernels.grouped_linear(
        meta(tokens, 2048, dtype=torch.bfloat16), meta(experts, 1536, 2048, dtype=torch.bfloat16), ends, out
    )
    expected = launch_grouped(compiler.architecture, itemsize=2, rows=tokens, groups=experts)
    many = "-g256" if experts == 256 else ""
    compiler.check_asked_for(f"grouped-bf16-t{expected.constants['TILE_T']}{many}")


def test_pairs_of_tokens_and_experts(compiler):
    chosen_Tk, places_Tk = meta(64, 8, dtype=torch.int64), meta(64, 8, dtype=torch.int32)
    kernels.sort_pairs(chosen_Tk, meta(512, dtype=torch.int32), places_Tk, meta(128, dtype=torch.int32))
    y_PE, out_TE = meta(512, 2048, dtype=torch.bfloat16), meta(64, 2048, dtype=torch.bfloat16)
    for places in (places_Tk, chosen_Tk):
        kernels.sum_pairs(y_PE, places, meta(64, 8, dtype=torch.float32), out_TE)
    compiler.check_asked_for("sort-pairs", "sum-pairs-bf16", "sum-pairs-bf16-i64")


def groupwise(tokens: int, *, bits: int, group: int, zeros: bool, bias: bool = False) -> None:
    fp32, bf16 = torch.float32, torch.bfloat16
    weight = kernels.PackedGroups(
        values_XGOB=meta(1, 4096 // group, 4096, group * bits // 8, dtype=torch.uint8),
        scales_XGO=meta(1, 4096 // group, 4096, dtype=fp32),
        zeros_XGO=meta(1, 4096 // group, 4096, dtype=fp32) if zeros else None,
        bits=bits,
        group=group,
        inputs=4096,
        outputs=4096,
    )
    x_TI, out_TO = meta(tokens, 4096, dtype=bf16), meta(tokens, 4096, dtype=bf16)
    groupwise_linear(x_TI, weight, meta(4096, dtype=bf16) if bias else None, out_TO)


def test_integer_weights_of_few_tokens_are_shared_out_and_summed(compiler):
    groupwise(1, bits=4, group=64, zeros=True)
    compiler.check_asked_for("groupwise-w4-bf16-g64-t16-zeros", "sum-shares-bf16")


def test_integer_weights_of_many_tokens(compiler):
    groupwise(4096, bits=8, group=128, zeros=False, bias=True)
    (name,) = (n for n in compiler.variants if n.startswith("groupwise-w8-bf16-g128") and n.endswith("bias"))
    compiler.check_asked_for(name)


def test_fp8_where_there_is_fp8(compiler):
    e4m3, fp32 = torch.float8_e4m3fn, torch.float32
    step = (
        meta(4096, 4096, dtype=e4m3),
        meta(4096, dtype=fp32),
        meta(14336, 4096, dtype=e4m3),
        meta(14336, dtype=fp32),
        None,
        meta(4096, 14336, dtype=torch.bfloat16),
    )
    if compiler.architecture.name != "sm_90":
        with pytest.raises(ValueError, match=r"multiplies no fp8 \(e4m3\); supported: sm_90"):
            kernels.fp8_linear(*step)
        return
    kernels.quantise_rows_fp8(meta(7, 4096, dtype=torch.bfloat16))
    kernels.fp8_linear(*step)
    compiler.check_asked_for("quantise-rows-fp8-bf16", "fp8-bf16-t128")


@pytest.mark.parametrize(("tokens", "name"), [(16, "fp8-bf16-t16-ends"), (4096, "fp8-bf16-t128-ends")])
def test_experts_in_fp8_where_there_is_fp8(compiler, tokens, name):
    e4m3, fp32 = torch.float8_e4m3fn, torch.float32
    step = (
        meta(tokens, 2048, dtype=e4m3),
        meta(tokens, dtype=fp32),
        meta(8, 1536, 2048, dtype=e4m3),
        meta(8, 1536, dtype=fp32),
        meta(8, dtype=torch.int32),
        meta(tokens, 1536, dtype=torch.bfloat16),
    )
    if compiler.architecture.name != "sm_90":
        with pytest.raises(ValueError, match=r"multiplies no fp8 \(e4m3\); supported: sm_90"):
            kernels.grouped_fp8_linear(*step)
        return
    kernels.grouped_fp8_linear(*step)
    compiler.check_asked_for(name)
