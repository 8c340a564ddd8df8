"""The C++ attention against the reference in float64, on random layouts with poisoned unused slots."""

import dataclasses

import pytest
import torch
from cases import CPU_TOLERANCE, AttentionCase, attention_case, mixed_sequences

from quire_kernels import cpu

pytestmark = pytest.mark.usefixtures("one_thread")
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


def check(case: AttentionCase, dtype: torch.dtype, *, planned: bool = True) -> None:
    out_THD, lse_TH = case.run(cpu, dtype, planned=planned)
    expected_THD, expected_TH = case.expected()
    torch.testing.assert_close(out_THD.double(), expected_THD, **CPU_TOLERANCE[dtype])
    torch.testing.assert_close(lse_TH.double(), expected_TH, rtol=2e-6, atol=2e-6)


@DTYPES
@pytest.mark.parametrize("block_size", [16, 48, 64, 128])
def test_prefill_chunk_decode_and_draft_in_one_batch(isa, dtype, block_size):
    sequences = mixed_sequences(block_size)
    check(
        attention_case(sequences, heads=6, kv_heads=2, head_dim=64, block_size=block_size, dtype=dtype), dtype
    )


@DTYPES
@pytest.mark.parametrize("head_dim", [16, 32, 64, 80, 96, 128, 256])
def test_head_dims(isa, dtype, head_dim):
    sequences = [(1, 33), (20, 50), (1, 130)]
    check(
        attention_case(sequences, heads=4, kv_heads=2, head_dim=head_dim, block_size=32, dtype=dtype), dtype
    )


@DTYPES
@pytest.mark.parametrize("group", [1, 2, 3, 4, 7, 8, 64])
def test_query_heads_per_kv_head(dtype, group):
    sequences = [(1, 70), (18, 40)]
    kv_heads = 1 if group == 64 else 2
    check(
        attention_case(
            sequences, heads=group * kv_heads, kv_heads=kv_heads, head_dim=32, block_size=16, dtype=dtype
        ),
        dtype,
    )


@DTYPES
@pytest.mark.parametrize("window", [1, 2, 15, 16, 33, 100, 10_000])
def test_window_reads_nothing_before_it(isa, dtype, window):
    sequences = [*mixed_sequences(32), (1, 301), (60, 302)]
    check(
        attention_case(
            sequences, heads=4, kv_heads=2, head_dim=32, block_size=32, window=window, dtype=dtype
        ),
        dtype,
    )


@DTYPES
@pytest.mark.parametrize("options", [{"softcap": 1.5}, {"softcap": 50.0}, {"sinks": True}, {"alibi": True}])
def test_softcap_sinks_and_alibi(isa, dtype, options):
    sequences = [*mixed_sequences(16), (2, 1500)]
    case = attention_case(sequences, heads=4, kv_heads=2, head_dim=32, block_size=16, dtype=dtype, **options)
    check(case, dtype)
    check(dataclasses.replace(case, window=None), dtype)


@DTYPES
@pytest.mark.parametrize("alibi", [False, True])
def test_all_options_together_over_split_keys(isa, dtype, alibi):
    check(
        attention_case(
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
        ),
        dtype,
    )


def test_plan_splits_long_sequences_and_is_optional():
    case = attention_case([(1, 3000), (5, 90)], heads=4, kv_heads=2, head_dim=32, block_size=64)
    starts, lens = case.query_starts_S1, case.seq_lens_S
    assert cpu.plan_attention(starts, lens, heads=4, kv_heads=2, block_size=64).shape == (2 * 3 + 2, 9)
    narrow = cpu.plan_attention(starts, lens, heads=4, kv_heads=2, block_size=64, window=64)
    assert narrow.shape == (2 + 2, 9)
    check(case, torch.float32, planned=False)


@DTYPES
@pytest.mark.parametrize("alibi", [False, True])
def test_same_bits_for_any_number_of_threads(dtype, alibi):
    case = attention_case(
        [(1, 2500), (40, 300), (1, 7), (3, 1200)],
        heads=6,
        kv_heads=2,
        head_dim=64,
        block_size=64,
        alibi=alibi,
        dtype=dtype,
    )
    alone = case.run(cpu, dtype)
    torch.set_num_threads(2)
    together = case.run(cpu, dtype)
    assert torch.equal(alone[0], together[0])
    assert torch.equal(alone[1], together[1])


@DTYPES
@pytest.mark.parametrize("options", [{}, {"window": 700, "softcap": 3.0, "sinks": True}, {"alibi": True}])
def test_items_of_several_heads_bring_the_bits_of_items_of_one(isa, dtype, options):
    """Of five key-value heads an item takes all, or two and two and one, or each by itself."""
    sequences = [(1, 2500), (2, 300), (1, 7), (3, 1200), (1, 64), (1, 65), (30, 200), (1, 1025)]
    case = attention_case(sequences, heads=10, kv_heads=5, head_dim=32, block_size=64, dtype=dtype, **options)
    results, heads = [], []
    for threads in (1, 3, 8):
        torch.set_num_threads(threads)
        plan = cpu.plan_attention(
            case.query_starts_S1, case.seq_lens_S, heads=10, kv_heads=5, block_size=64, window=case.window
        )
        heads.append(set(plan[:, 2].tolist()))
        results.append(case.run(cpu, dtype))
    assert heads[0] >= {5}
    assert heads[1] >= {1, 2}
    assert heads[2] == {1}
    for out_THD, lse_TH in results[1:]:
        assert torch.equal(out_THD, results[0][0])
        assert torch.equal(lse_TH, results[0][1])
    check(case, dtype)


@DTYPES
@pytest.mark.parametrize("options", [{}, {"window": 75}, {"alibi": True}])
def test_same_bits_in_one_prefill_in_chunks_and_in_decode(isa, dtype, options):
    length = 1100
    whole = attention_case(
        [(length, length)], heads=3, kv_heads=1, head_dim=32, block_size=32, dtype=dtype, **options
    )
    out_THD, lse_TH = whole.run(cpu, dtype)
    for start, end in [(0, 7), (7, 64), (1000, 1031), (1050, 1100), (1099, 1100)]:
        part = dataclasses.replace(
            whole,
            q_THD=whole.q_THD[start:end],
            query_starts_S1=torch.tensor([0, end - start], dtype=torch.int32),
            seq_lens_S=torch.tensor([end], dtype=torch.int32),
        )
        part_THD, part_TH = part.run(cpu, dtype)
        assert torch.equal(part_THD, out_THD[start:end])
        assert torch.equal(part_TH, lse_TH[start:end])


def test_weights_are_accurate_down_to_the_smallest(isa):
    """With V the identity the outputs are the weights; scores are exact, so only the exponential errs."""
    keys = 32
    scores = -torch.arange(keys) * 2.671875
    k_TKD = torch.zeros(keys, 1, keys)
    k_TKD[:, 0, 0] = scores
    k_cache, v_cache = (torch.empty(s) for s in cpu.kv_cache_shapes(1, 1, keys, keys, torch.float32))
    cpu.store_kv(k_TKD, torch.eye(keys)[:, None], k_cache, v_cache, torch.arange(keys))
    q_THD = torch.zeros(1, 1, keys)
    q_THD[0, 0, 0] = 1
    tables, starts, lens = (torch.tensor(x, dtype=torch.int32) for x in ([[0]], [0, 1], [keys]))
    for softcap in (None, 3.0):
        out = torch.empty_like(q_THD)
        cpu.paged_attention(q_THD, k_cache, v_cache, tables, starts, lens, out, scale=1.0, softcap=softcap)
        exact = scores.double() if softcap is None else softcap * torch.tanh(scores.double() / softcap)
        torch.testing.assert_close(out[0, 0].double(), torch.softmax(exact, 0), rtol=1e-6, atol=0)


@DTYPES
def test_takes_slices_of_a_merged_projection(dtype):
    case = attention_case([(3, 20), (1, 17)], heads=4, kv_heads=2, head_dim=16, block_size=16, dtype=dtype)
    expected_THD, _ = case.run(cpu, dtype)
    wide = torch.randn(4, 11, 16).to(dtype)
    wide[:, 2:6] = case.q_THD
    k_cache, v_cache = case.cache(cpu, dtype)
    out = torch.full((4, 7, 40), 5.0, dtype=dtype)
    cpu.paged_attention(
        wide[:, 2:6],
        k_cache,
        v_cache,
        case.tables_SM,
        case.query_starts_S1,
        case.seq_lens_S,
        out[:, 1:5, 8:24],
        scale=case.scale,
    )
    assert torch.equal(out[:, 1:5, 8:24], expected_THD)
    assert (out[:, 0] == 5).all()
    assert (out[:, 1:5, 24:] == 5).all()


def test_mistakes_are_named():
    case = attention_case([(1, 20)], heads=2, kv_heads=1, head_dim=16, block_size=16)
    with pytest.raises(ValueError, match="convert to bfloat16"):
        case.cache(cpu, torch.float16)
    with pytest.raises(ValueError, match="block_size is 24"):
        cpu.kv_cache_shapes(1, 1, 24, 16, torch.float32)
    with pytest.raises(ValueError, match="head_dim is 20"):
        cpu.kv_cache_shapes(1, 1, 16, 20, torch.float32)
    with pytest.raises(ValueError, match="window is 0"):
        dataclasses.replace(case, window=0).run(cpu, torch.float32)
    with pytest.raises(ValueError, match="length of alibi_slopes_H is 3; it must be 2"):
        dataclasses.replace(case, alibi_slopes_H=torch.ones(3)).run(cpu, torch.float32)
    with pytest.raises(ValueError, match="alibi_slopes_H is Double; it must be Float"):
        dataclasses.replace(case, alibi_slopes_H=torch.ones(2).double()).run(cpu, torch.float32)
    wrong = dataclasses.replace(case, tables_SM=torch.tensor([[0, 99]], dtype=torch.int32))
    with pytest.raises(ValueError, match=r"tables_SM\[0, 1\] must name one of the cache's 5 blocks"):
        wrong.run(cpu, torch.float32)
    with pytest.raises(ValueError, match="q_THD has 1"):
        dataclasses.replace(case, query_starts_S1=torch.tensor([0, 2], dtype=torch.int32)).run(
            cpu, torch.float32
        )
