"""The C++ cache of 8 bits: bytes and scales are the reference's, attention to them is float64's."""

import dataclasses

import pytest
import torch
from cases import CPU_TOLERANCE, AttentionCase, attention_case, mixed_sequences

from quire_kernels import cpu, reference

pytestmark = pytest.mark.usefixtures("one_thread")
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
CODES = pytest.mark.parametrize("code", [torch.int8, torch.float8_e4m3fn], ids=["int8", "fp8_e4m3"])


def check(case: AttentionCase, dtype: torch.dtype, code: torch.dtype) -> None:
    out_THD, lse_TH = case.run(cpu, dtype, kv_dtype=code)
    expected_THD, expected_TH = case.expected(code)
    torch.testing.assert_close(out_THD.double(), expected_THD, **CPU_TOLERANCE[dtype])
    torch.testing.assert_close(lse_TH.double(), expected_TH, rtol=2e-6, atol=2e-6)


def plain(k_cache: torch.Tensor, v_cache: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The packed layout of either type as the reference's, [N, K, B, D], in bytes that can be compared."""
    k_cache, v_cache = k_cache.view(torch.uint8), v_cache.view(torch.uint8)
    if k_cache.dim() == 5:  # [N, K, D / 2, B, 2] and [N, K, B / 2, D, 2]
        k_cache = k_cache.transpose(3, 4).flatten(2, 3)
        v_cache = v_cache.transpose(3, 4).flatten(2, 3)
    return k_cache.transpose(2, 3), v_cache


def odd_tokens(dtype: torch.dtype) -> torch.Tensor:
    """[T, 2, 32]: ordinary numbers, zeros, huge and tiny ones, and a range that float8 has subnormals for."""
    generator = torch.Generator().manual_seed(5)
    x_TKD = torch.randn(12, 2, 32, generator=generator)
    x_TKD[1] = 0
    x_TKD[2] *= 1e38 / x_TKD[2].abs().max()
    x_TKD[3] *= 1e-30
    x_TKD[4] *= 1e-39
    x_TKD[5] = 448 * torch.logspace(0, -7, 32)
    x_TKD[7, 0, 3] = float("nan")
    x_TKD[8, 1, 4] = float("-inf")
    x_TKD[6] = torch.arange(-127, 127, 8) / 2  # with a scale of 1, halfway between two integers
    x_TKD[6, :, 0] = 127
    return x_TKD.to(dtype)


@CODES
@DTYPES
@pytest.mark.parametrize("block_size", [16, 48])
def test_bytes_and_scales_are_the_references(isa, dtype, code, block_size):
    x_TKD = odd_tokens(dtype)
    k_TKD, v_TKD = x_TKD, x_TKD.flip(0)
    slots_T = torch.tensor([0, 1, block_size - 1, block_size, 45, -1, 63, 5, 20, 21, 22, 40])
    stored = []
    for ops in (cpu, reference):
        shapes = ops.kv_cache_shapes(4, 2, block_size, 32, dtype)
        caches = [torch.zeros(shape, dtype=torch.uint8).view(code) for shape in shapes]
        scales = [torch.zeros(4, 2, block_size) for _ in range(2)]
        ops.store_kv(k_TKD, v_TKD, *caches, slots_T, k_scales_NKB=scales[0], v_scales_NKB=scales[1])
        caches = plain(*caches) if ops is cpu else [cache.view(torch.uint8) for cache in caches]
        stored.append((*caches, *scales))
    for ours, expected in zip(*stored, strict=True):
        assert torch.equal(ours.nan_to_num(-1.0), expected.nan_to_num(-1.0))


@CODES
def test_what_is_stored_is_close_to_what_came(code):
    """int8 is off by half a step at most, e4m3 by half a unit of its last bit."""
    x_TKD = odd_tokens(torch.float32)[torch.tensor([0, 1, 2, 3, 5, 6, 9])]
    values_TKD, scales_TK = reference.quantise_tokens(x_TKD, code)
    error_TKD = (values_TKD.double() * scales_TK[..., None].double() - x_TKD.double()).abs()
    step = scales_TK[..., None].double()
    if code == torch.int8:
        bound_TKD = 0.5001 * step
    else:
        bound_TKD = 1.001 * torch.maximum(x_TKD.double().abs() * 2**-4, step * 2**-10)
    assert (error_TKD <= bound_TKD).all()


@CODES
@DTYPES
@pytest.mark.parametrize("block_size", [16, 48, 64, 128])
def test_prefill_chunk_decode_and_draft_in_one_batch(isa, dtype, code, block_size):
    sequences = mixed_sequences(block_size)
    case = attention_case(sequences, heads=6, kv_heads=2, head_dim=64, block_size=block_size, dtype=dtype)
    check(case, dtype, code)


@CODES
@DTYPES
@pytest.mark.parametrize("head_dim", [16, 80, 96, 128, 256])
def test_head_dims(dtype, code, head_dim):
    sequences = [(1, 33), (20, 50), (1, 130)]
    case = attention_case(sequences, heads=4, kv_heads=2, head_dim=head_dim, block_size=32, dtype=dtype)
    check(case, dtype, code)


@CODES
@DTYPES
@pytest.mark.parametrize("window", [1, 2, 15, 33, 100])
def test_window_reads_nothing_before_it(isa, dtype, code, window):
    sequences = [*mixed_sequences(32), (1, 301), (60, 302)]
    case = attention_case(
        sequences, heads=4, kv_heads=2, head_dim=32, block_size=32, window=window, dtype=dtype
    )
    check(case, dtype, code)


@CODES
@DTYPES
@pytest.mark.parametrize("alibi", [False, True])
def test_all_options_together_over_split_keys(isa, dtype, code, alibi):
    case = attention_case(
        [(1, 4000), (3, 2049), (1, 1024), (1, 1025), (100, 1100)],
        heads=6,
        kv_heads=2,
        head_dim=32,
        block_size=64,
        window=1500,
        softcap=4.0,
        alibi=alibi,
        sinks=True,
        dtype=dtype,
    )
    check(case, dtype, code)


@CODES
@DTYPES
def test_same_bits_for_any_number_of_threads(dtype, code):
    case = attention_case(
        [(1, 2500), (40, 300), (1, 7), (3, 1200), (1, 65)],  # one thread takes both heads at once
        heads=6,
        kv_heads=2,
        head_dim=64,
        block_size=64,
        dtype=dtype,
    )
    alone = case.run(cpu, dtype, kv_dtype=code)
    torch.set_num_threads(2)
    together = case.run(cpu, dtype, kv_dtype=code)
    assert torch.equal(alone[0], together[0])
    assert torch.equal(alone[1], together[1])


@CODES
@DTYPES
def test_same_bits_in_one_prefill_in_chunks_and_in_decode(isa, dtype, code):
    length = 1100
    whole = attention_case([(length, length)], heads=3, kv_heads=1, head_dim=32, block_size=32, dtype=dtype)
    out_THD, _ = whole.run(cpu, dtype, kv_dtype=code)
    for start, end in [(0, 7), (7, 64), (1050, 1100), (1099, 1100)]:
        part = dataclasses.replace(
            whole,
            q_THD=whole.q_THD[start:end],
            query_starts_S1=torch.tensor([0, end - start], dtype=torch.int32),
            seq_lens_S=torch.tensor([end], dtype=torch.int32),
        )
        part_THD, _ = part.run(cpu, dtype, kv_dtype=code)
        assert torch.equal(part_THD, out_THD[start:end])


@CODES
@DTYPES
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_spoils_its_own_sequence_only(isa, dtype, code, bad):
    case = attention_case([(1, 70), (1, 40)], heads=2, kv_heads=1, head_dim=32, block_size=16, dtype=dtype)
    clean_THD, _ = case.run(cpu, dtype, kv_dtype=code)
    for spoilt in (("v_LKD",), ("k_LKD", "v_LKD")):
        change = {name: getattr(case, name).clone() for name in spoilt}
        for values_LKD in change.values():
            values_LKD[20, 0, 3] = bad
        out_THD, _ = dataclasses.replace(case, **change).run(cpu, dtype, kv_dtype=code)
        assert not out_THD[0].isfinite().any()
        assert torch.equal(out_THD[1], clean_THD[1])


def test_mistakes_are_named():
    case = attention_case([(1, 20)], heads=2, kv_heads=1, head_dim=16, block_size=16)
    k_cache, v_cache, scales = case.eight_bit_cache(cpu, torch.float32, torch.int8)
    step = (case.tables_SM, case.query_starts_S1, case.seq_lens_S, torch.empty_like(case.q_THD))
    with pytest.raises(ValueError, match="k_scales_NKB is missing; a cache of int8"):
        cpu.paged_attention(case.q_THD, k_cache, v_cache, *step, scale=1.0)
    with pytest.raises(ValueError, match="k_scales_NKB is given, but the cache is of the type"):
        cpu.paged_attention(case.q_THD, *case.cache(cpu, torch.float32), *step, scale=1.0, **scales)
    short = {**scales, "v_scales_NKB": scales["v_scales_NKB"][:2]}
    with pytest.raises(ValueError, match=r"v_scales_NKB is \[2, 1, 16\]; it must be \[5, 1, 16\]"):
        cpu.paged_attention(case.q_THD, k_cache, v_cache, *step, scale=1.0, **short)
    other = (k_cache.view(torch.uint8), v_cache.view(torch.uint8))
    with pytest.raises(ValueError, match="k_cache is Byte; it must be Float, int8 or float8_e4m3fn"):
        cpu.paged_attention(case.q_THD, *other, *step, scale=1.0, **scales)
