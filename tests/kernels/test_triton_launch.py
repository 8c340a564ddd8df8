"""What the Triton host functions ask the compiler for, decided without a GPU: nothing is launched here.

A driver that does no more than name a device stands in for the GPU, and the tensors are on the meta device: a
host function that read one, which on a GPU waits for it and cannot be captured in a CUDA graph, would fail.
"""

import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

import triton
from triton.backends.compiler import GPUTarget

from quire_kernels import triton as kernels
from quire_kernels.triton import launch
from quire_kernels.triton.attention_launch import attention_shares
from quire_kernels.triton.compile_all import specialize
from quire_kernels.triton.grouped import launch_grouped
from quire_kernels.triton.groupwise import groupwise_linear
from quire_kernels.triton.gumbel import vocabulary_parts
from quire_kernels.triton.launch import ARCHITECTURES
from quire_kernels.triton.mla import mla_shares
from quire_kernels.triton.variants import variants

FIRST_DEVICE = 1000  # numbers of their own, so that no kernel cache of a real device is touched
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


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

    def check_asked_for(self, *names: str) -> None:
        """Exactly these variants were asked for, in this order."""
        assert len(self.asked) == len(names)
        for compile, name in zip(self.asked, names, strict=True):
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
    architecture = ARCHITECTURES[request.param]
    device = FIRST_DEVICE + list(ARCHITECTURES).index(request.param)
    target = GPUTarget(architecture.backend, architecture.arch, architecture.warp_size)
    driver = SimpleNamespace(
        get_current_device=lambda: device,
        get_current_stream=lambda device: 0,
        get_current_target=lambda: target,
    )
    compiler = Compiler(architecture)
    monkeypatch.setattr(triton.runtime.driver, "_active", driver)
    monkeypatch.setattr(triton.knobs.runtime, "jit_cache_hook", compiler.note)
    monkeypatch.setattr(launch, "architecture_of", lambda device: architecture)
    return compiler


def meta(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def scales(kv_heads: int) -> dict[str, torch.Tensor]:
    """Those of a cache in 8 bits."""
    names = ("k_scales_NKB", "v_scales_NKB")
    return {name: meta(64, kv_heads, 16, dtype=torch.float32) for name in names}


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
    lse: bool = False,
    kept: torch.dtype | None = None,
) -> None:
    """A planned call on tensors without data, with q a slice of a merged projection."""
    tokens, sequences = sum(queries), len(queries)
    merged = meta(tokens, heads + 2 * kv_heads, head_dim, dtype=dtype)
    caches = [meta(64, kv_heads, 16, head_dim, dtype=kept or dtype) for _ in range(2)]
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
        sinks_H=meta(heads, dtype=torch.float32) if sinks else None,
        lse_TH=meta(tokens, heads, dtype=torch.float32) if lse else None,
        **(scales(kv_heads) if kept else {}),
        plan=kernels.plan_attention(
            torch.tensor([0, *queries]).cumsum(0),
            torch.tensor(lengths),
            heads=heads,
            kv_heads=kv_heads,
            block_size=16,
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


def test_drafts_count_as_decoding(compiler):
    attend([4, 1], [30_000, 8], dtype=torch.bfloat16, heads=16, kv_heads=2, head_dim=128)
    compiler.check_asked_for("split-bf16-d128-g8-q4", "merge-shares-bf16-d128")


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
    ("dtype", "head_dim", "rotated", "normed", "unit_offset", "name"),
    [
        ("bf16", 128, 128, False, False, "rotate-store-bf16-d128-r128"),
        ("bf16", 128, 128, True, False, "rotate-store-bf16-d128-r128-norm"),
        ("bf16", 256, 256, True, True, "rotate-store-bf16-d256-r256-norm"),
        ("fp16", 96, 72, False, False, "rotate-store-fp16-d96-r72"),
        ("fp32", 64, 64, True, False, "rotate-store-fp32-d64-r64-norm"),
    ],
)
def test_the_middle_of_a_layer_is_one_launch(compiler, dtype, head_dim, rotated, normed, unit_offset, name):
    dtype = TYPES[dtype]
    qkv = meta(3, 32 + 2 * 8, head_dim, dtype=dtype)
    caches = [meta(64, 8, 16, head_dim, dtype=dtype) for _ in range(2)]
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
    )
    compiler.check_asked_for(name)


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


@pytest.mark.parametrize("tokens", [8, 256, 512, 8192])
def test_experts(compiler, tokens):
    out = meta(tokens, 1536, dtype=torch.bfloat16)
    ends = meta(8, dtype=torch.int32)
    kernels.grouped_linear(
        meta(tokens, 2048, dtype=torch.bfloat16), meta(8, 1536, 2048, dtype=torch.bfloat16), ends, out
    )
    expected = launch_grouped(compiler.architecture, itemsize=2, rows=tokens, groups=8)
    compiler.check_asked_for(f"grouped-bf16-t{expected.constants['TILE_T']}")


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
