"""The Triton attention under Triton's interpreter; test_triton_interpreter.py runs it in its own process."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from cases import AttentionCase, attention_case, mixed_sequences

from quire_kernels import reference
from quire_kernels import triton as kernels
from quire_kernels.triton import attention, launch
from quire_kernels.triton.attention_launch import attention_shares

TOLERANCE = {
    torch.float32: {"rtol": 2e-6, "atol": 2e-6},
    torch.float16: {"rtol": 2e-3, "atol": 1e-3},  # weights and outputs are rounded to 11 bits
}
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
DECODES = [(1, 1), (1, 16), (1, 17), (1, 130), (0, 7), (3, 40), (2, 2)]
# The interpreter stores token by token; the layout is the reference's, which stores faster.
FAST = SimpleNamespace(**{**vars(kernels), "store_kv": reference.store_kv})
LONG = [(150, 290), (1, 200), (70, 70)]  # several tiles of queries and of keys


def check(case: AttentionCase, dtype: torch.dtype, *, planned: bool = True) -> None:
    out_THD, lse_TH = case.run(FAST, dtype, planned=planned)
    expected_THD, expected_TH = case.expected()
    torch.testing.assert_close(out_THD.double(), expected_THD, **TOLERANCE[dtype])
    torch.testing.assert_close(lse_TH.double(), expected_TH, rtol=2e-6, atol=2e-6)


def share_keys(monkeypatch: pytest.MonkeyPatch, shares: int) -> None:
    monkeypatch.setattr(attention, "attention_shares", lambda *_, **__: shares)


@DTYPES
@pytest.mark.parametrize("block_size", [16, 48, 128])
def test_prefill_chunk_decode_and_draft_in_one_batch(dtype, block_size):
    sequences = mixed_sequences(block_size)
    check(
        attention_case(sequences, heads=6, kv_heads=2, head_dim=32, block_size=block_size, dtype=dtype), dtype
    )


@DTYPES
@pytest.mark.parametrize("head_dim", [16, 64, 80, 96, 128, 256])
@pytest.mark.parametrize("sequences", [[(1, 33), (3, 70)], [(40, 90)]], ids=["decode", "prefill"])
def test_head_dims(dtype, head_dim, sequences):
    case = attention_case(sequences, heads=2, kv_heads=1, head_dim=head_dim, block_size=16, dtype=dtype)
    check(case, dtype)


@pytest.mark.parametrize("group", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("sequences", [[(1, 40), (1, 7)], [(37, 60), (1, 9)]], ids=["decode", "prefill"])
def test_groups(group, sequences):
    case = attention_case(
        sequences, heads=2 * group, kv_heads=2, head_dim=16, block_size=16, dtype=torch.float16
    )
    check(case, torch.float16)


@DTYPES
@pytest.mark.parametrize("window", [1, 7, 64, 100])
def test_windows_skip_what_they_do_not_see(dtype, window):
    for sequences in (LONG, [(1, 200), (4, 150)]):
        case = attention_case(
            sequences, heads=2, kv_heads=1, head_dim=16, block_size=16, window=window, dtype=dtype
        )
        check(case, dtype)


@pytest.mark.parametrize("sequences", [LONG, DECODES], ids=["prefill", "decode"])
@pytest.mark.parametrize("window", [None, 33])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("sinks", [False, True])
def test_options_combine(sequences, window, softcap, sinks):
    case = attention_case(
        sequences,
        heads=3,
        kv_heads=1,
        head_dim=16,
        block_size=16,
        window=window,
        softcap=softcap,
        sinks=sinks,
        dtype=torch.float16,
    )
    check(case, torch.float16)


@DTYPES
@pytest.mark.parametrize("sequences", [LONG, DECODES], ids=["prefill", "decode"])
@pytest.mark.parametrize("options", [{}, {"window": 33, "softcap": 2.0, "sinks": True}], ids=["plain", "all"])
def test_alibi(dtype, sequences, options):
    case = attention_case(
        sequences, heads=6, kv_heads=2, head_dim=16, block_size=16, alibi=True, dtype=dtype, **options
    )
    check(case, dtype)


def test_alibi_of_far_keys_is_exact():
    """The difference of a slope times two positions would be off by 1e-4; a slope times a distance is not."""
    case = attention_case([(1, 1500), (2, 1490)], heads=2, kv_heads=1, head_dim=16, block_size=64, alibi=True)
    case = dataclasses.replace(case, alibi_slopes_H=torch.tensor([0.51, 0.001]))
    check(case, torch.float32)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp2:RuntimeWarning")
def test_softcap_saturates_both_ways():
    case = attention_case([(1, 40)], heads=1, kv_heads=1, head_dim=16, block_size=16, softcap=0.01)
    check(case, torch.float32)


@DTYPES
@pytest.mark.parametrize("shares", [1, 2, 3, 19])
def test_shares_merge_to_the_whole(monkeypatch, dtype, shares):
    share_keys(monkeypatch, shares)
    sequences = [(1, 1), (3, 40), (0, 7), (1, 170)]
    for options in ({}, {"window": 50, "softcap": 3.0, "sinks": True}, {"alibi": True}):
        case = attention_case(
            sequences, heads=2, kv_heads=1, head_dim=32, block_size=16, dtype=dtype, **options
        )
        check(case, dtype)


def test_long_contexts_are_shared_by_themselves():
    case = attention_case([(1, 1030)], heads=2, kv_heads=1, head_dim=16, block_size=64)
    check(case, torch.float32)
    assert (
        attention_shares(
            launch.architecture_of(torch.device("cpu")),
            sequences=1,
            kv_heads=1,
            max_query_len=1,
            max_seq_len=1030,
            window=None,
        )
        == 4
    )


def test_a_plan_is_optional():
    check(
        attention_case([(1, 9), (20, 30)], heads=2, kv_heads=1, head_dim=16, block_size=16),
        torch.float32,
        planned=False,
    )


@pytest.mark.parametrize("shares", [1, 2])
@pytest.mark.parametrize("sequences", [[(1, 20), (1, 40)], [(40, 40), (1, 20)]], ids=["decode", "prefill"])
def test_rows_of_no_sequence_are_left_alone(monkeypatch, sequences, shares):
    """A captured graph runs with more rows and sequences than the step has: their lengths are zero."""
    share_keys(monkeypatch, shares)
    case = attention_case(sequences, heads=2, kv_heads=1, head_dim=16, block_size=16)
    tokens = case.q_THD.shape[0]
    padded = dataclasses.replace(
        case,
        q_THD=torch.cat([case.q_THD, torch.full((5, 2, 16), float("nan"))]),
        query_starts_S1=torch.cat([case.query_starts_S1, case.query_starts_S1[-1:].repeat(2)]),
        seq_lens_S=torch.cat([case.seq_lens_S, torch.zeros(2, dtype=torch.int32)]),
        tables_SM=torch.cat([case.tables_SM, case.tables_SM]),
    )
    out_THD, lse_TH = padded.run(FAST, torch.float32)
    expected_THD, expected_TH = case.expected()
    torch.testing.assert_close(out_THD[:tokens].double(), expected_THD, rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(lse_TH[:tokens].double(), expected_TH, rtol=2e-6, atol=2e-6)
    assert out_THD[tokens:].isnan().all()
    assert lse_TH[tokens:].isnan().all()


@pytest.mark.parametrize("sequences", [[(1, 20), (1, 40)], [(40, 40), (1, 20)]], ids=["decode", "prefill"])
def test_queries_and_output_may_be_slices_of_wider_tensors(sequences):
    case = attention_case(sequences, heads=4, kv_heads=2, head_dim=16, block_size=16)
    tokens = case.q_THD.shape[0]
    merged = torch.full((tokens, 8 * 16), float("nan"))
    q_THD = merged[:, : 4 * 16].view(tokens, 4, 16)
    q_THD.copy_(case.q_THD)
    wide_out = torch.full((tokens, 4, 20), float("nan"))
    k_cache, v_cache = case.cache(kernels, torch.float32)
    kernels.paged_attention(
        q_THD,
        k_cache,
        v_cache,
        case.tables_SM,
        case.query_starts_S1,
        case.seq_lens_S,
        wide_out[..., 2:18],
        scale=case.scale,
    )
    expected_THD, _ = case.expected()
    torch.testing.assert_close(wide_out[..., 2:18].double(), expected_THD, rtol=2e-6, atol=2e-6)
    assert wide_out[..., :2].isnan().all()
    assert wide_out[..., 18:].isnan().all()


def test_the_interpreter_refuses_bfloat16():
    case = attention_case([(1, 3)], heads=1, kv_heads=1, head_dim=16, block_size=16)
    with pytest.raises(ValueError, match="q_THD has dtype bfloat16, which Triton's interpreter"):
        case.run(kernels, torch.bfloat16)


@pytest.mark.parametrize("heads", [1, 3, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_store_writes_the_slots_and_nothing_else(heads, dtype):
    generator = torch.Generator().manual_seed(heads)
    merged = torch.randn(6, 3 * heads, 80, generator=generator).to(dtype)
    k_TKD, v_TKD = merged[:, heads : 2 * heads], merged[:, 2 * heads :]
    slots_T = torch.tensor([5, -1, 64, 17, -7, 0])
    shape, same_shape = kernels.kv_cache_shapes(5, heads, 16, 80, dtype)
    assert shape == same_shape == (5, heads, 16, 80)
    k_cache, v_cache = torch.full(shape, 7.0, dtype=dtype), torch.full(shape, 9.0, dtype=dtype)
    kernels.store_kv(k_TKD, v_TKD, k_cache, v_cache, slots_T)
    for cache, x_TKD, rest in ((k_cache, k_TKD, 7.0), (v_cache, v_TKD, 9.0)):
        expected = torch.full(shape, rest, dtype=dtype)
        for token, slot in enumerate(slots_T.tolist()):
            if slot >= 0:
                expected[slot // 16, :, slot % 16] = x_TKD[token]
        assert torch.equal(cache, expected)


CODES = pytest.mark.parametrize("code", [torch.int8, torch.float8_e4m3fn], ids=["int8", "fp8_e4m3"])


@CODES
@DTYPES
@pytest.mark.parametrize("sequences", [LONG, DECODES], ids=["prefill", "decode"])
@pytest.mark.parametrize(
    "options", [{}, {"window": 33, "softcap": 2.0, "sinks": True, "alibi": True}], ids=["plain", "all"]
)
def test_a_cache_of_eight_bits(dtype, code, sequences, options):
    case = attention_case(sequences, heads=6, kv_heads=2, head_dim=80, block_size=16, dtype=dtype, **options)
    out_THD, lse_TH = case.run(FAST, dtype, kv_dtype=code)
    expected_THD, expected_TH = case.expected(code)
    torch.testing.assert_close(out_THD.double(), expected_THD, **TOLERANCE[dtype])
    torch.testing.assert_close(lse_TH.double(), expected_TH, rtol=2e-6, atol=2e-6)


@CODES
@DTYPES
@pytest.mark.parametrize(
    ("head_dim", "block_size"),
    [(16, 48), (64, 32), (96, 64), (128, 128), (256, 16)],
    ids=lambda value: str(value),
)
def test_a_cache_of_eight_bits_has_any_shape(dtype, code, head_dim, block_size):
    for sequences in ([(1, 33), (3, 70)], [(20, 140)]):
        case = attention_case(
            sequences, heads=2, kv_heads=1, head_dim=head_dim, block_size=block_size, dtype=dtype
        )
        out_THD, lse_TH = case.run(FAST, dtype, kv_dtype=code)
        expected_THD, expected_TH = case.expected(code)
        torch.testing.assert_close(out_THD.double(), expected_THD, **TOLERANCE[dtype])
        torch.testing.assert_close(lse_TH.double(), expected_TH, rtol=2e-6, atol=2e-6)


@CODES
def test_values_of_any_size_survive_float16(code):
    """The scale of a value as small as these, times a weight, is less than any float16."""
    case = attention_case(
        [(1, 40), (20, 20)], heads=1, kv_heads=1, head_dim=16, block_size=16, dtype=torch.float16
    )
    case = dataclasses.replace(case, v_LKD=case.v_LKD * 1e-3)
    out_THD, _ = case.run(FAST, torch.float16, kv_dtype=code)
    expected_THD, _ = case.expected(code)
    torch.testing.assert_close(out_THD.double(), expected_THD, rtol=4e-3, atol=2e-6)


@CODES
@DTYPES
@pytest.mark.parametrize("heads", [1, 3])
def test_store_rounds_to_eight_bits_as_the_reference_does(dtype, code, heads):
    generator = torch.Generator().manual_seed(heads)
    x_TKD = torch.randn(8, heads, 80, generator=generator)
    x_TKD[1] = 0
    x_TKD[2] *= 1e-3
    x_TKD[3] = 448 * torch.logspace(0, -7, 80)
    x_TKD[4] = torch.arange(-127, 113, 3)[:80] / 2  # with a scale of 1, many are halfway between two integers
    x_TKD[4, :, 0] = 127
    x_TKD[5, 0, 3] = float("nan")
    x_TKD[6, 0, 4] = float("inf")
    x_TKD = x_TKD.to(dtype)
    slots_T = torch.tensor([5, 17, 64, -1, 0, 33, 34, 79])
    stored = []
    for ops in (kernels, reference):
        caches = [torch.zeros(5, heads, 16, 80, dtype=torch.uint8).view(code) for _ in range(2)]
        scales = [torch.zeros(5, heads, 16) for _ in range(2)]
        ops.store_kv(x_TKD, x_TKD.flip(0), *caches, slots_T, k_scales_NKB=scales[0], v_scales_NKB=scales[1])
        stored.append((*(cache.view(torch.uint8) for cache in caches), *scales))
    for ours, expected in zip(*stored, strict=True):
        assert torch.equal(ours.nan_to_num(-1.0), expected.nan_to_num(-1.0))
