"""Latent attention under the interpreter: widths, heads, drafts, shares, and tensors of any strides."""

import dataclasses

import pytest
import torch
from cases import attention_case, decode_latents, mixed_sequences

from quire_kernels import reference
from quire_kernels import triton as kernels
from quire_kernels.triton import launch, mla

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
TOLERANCE = {
    torch.float32: {"rtol": 3e-6, "atol": 3e-6},
    torch.float16: {"rtol": 2e-3, "atol": 1e-3},  # weights and outputs are rounded to 11 bits
}


def make(sequences, *, heads, latent_dim, rotary_dim, dtype=torch.float32, block_size=16):
    return attention_case(
        sequences,
        heads=heads,
        kv_heads=1,
        head_dim=latent_dim + rotary_dim,
        block_size=block_size,
        dtype=dtype,
    )


def check(case, *, latent_dim, dtype=torch.float32, planned=True):
    options = {"latent_dim": latent_dim, "scale": case.scale}
    out_THV, lse_TH = decode_latents(kernels, case, case.q_THD.to(dtype), planned=planned, **options)
    expected_THV, expected_TH = decode_latents(reference, case, case.q_THD.double(), **options)
    torch.testing.assert_close(out_THV.double(), expected_THV, **TOLERANCE[dtype])
    torch.testing.assert_close(lse_TH.double(), expected_TH, rtol=2e-6, atol=4e-6)


@DTYPES
@pytest.mark.parametrize(("latent_dim", "rotary_dim"), [(512, 64), (256, 64), (256, 32), (80, 20)])
@pytest.mark.parametrize("heads", [3, 16, 40])
def test_widths_and_heads(dtype, latent_dim, rotary_dim, heads):
    sequences = [(1, 33), (1, 100)]
    case = make(sequences, heads=heads, latent_dim=latent_dim, rotary_dim=rotary_dim, dtype=dtype)
    check(case, latent_dim=latent_dim, dtype=dtype)


@DTYPES
@pytest.mark.parametrize("block_size", [16, 48, 128])
def test_drafts_chunks_and_prompts_are_causal(dtype, block_size):
    case = make(
        mixed_sequences(block_size), heads=6, latent_dim=32, rotary_dim=16, dtype=dtype, block_size=block_size
    )
    check(case, latent_dim=32, dtype=dtype)


def test_the_heads_of_a_deepseek():
    check(make([(1, 40), (2, 9)], heads=128, latent_dim=64, rotary_dim=16), latent_dim=64)


@DTYPES
@pytest.mark.parametrize("shares", [1, 2, 3, 19])
def test_shares_merge_to_the_whole(monkeypatch, dtype, shares):
    monkeypatch.setattr(mla, "mla_shares", lambda *_, **__: shares)
    case = make([(1, 1), (3, 40), (0, 7), (1, 170)], heads=7, latent_dim=32, rotary_dim=16, dtype=dtype)
    check(case, latent_dim=32, dtype=dtype)


def test_long_contexts_are_shared_by_themselves():
    h100 = launch.architecture_of(torch.device("cpu"))
    assert mla.mla_shares(h100, sequences=1, tiles=1, max_seq_len=1030) == 2
    check(make([(1, 1030)], heads=2, latent_dim=16, rotary_dim=16, block_size=64), latent_dim=16)


def test_a_plan_is_optional():
    check(make([(1, 9), (2, 30)], heads=2, latent_dim=16, rotary_dim=16), latent_dim=16, planned=False)


@pytest.mark.parametrize("shares", [1, 2])
def test_rows_of_no_sequence_are_left_alone(monkeypatch, shares):
    """A captured graph runs with more rows and sequences than the step has: their lengths are zero."""
    monkeypatch.setattr(mla, "mla_shares", lambda *_, **__: shares)
    case = make([(1, 20), (1, 40)], heads=3, latent_dim=16, rotary_dim=16)
    padded = dataclasses.replace(
        case,
        q_THD=torch.cat([case.q_THD, torch.full((5, 3, 32), float("nan"))]),
        query_starts_S1=torch.cat([case.query_starts_S1, case.query_starts_S1[-1:].repeat(2)]),
        seq_lens_S=torch.cat([case.seq_lens_S, torch.zeros(2, dtype=torch.int32)]),
        tables_SM=torch.cat([case.tables_SM, case.tables_SM]),
    )
    options = {"latent_dim": 16, "scale": case.scale}
    out_THV, lse_TH = decode_latents(kernels, padded, padded.q_THD, **options)
    expected_THV, expected_TH = decode_latents(reference, case, case.q_THD.double(), **options)
    torch.testing.assert_close(out_THV[:2].double(), expected_THV, rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(lse_TH[:2].double(), expected_TH, rtol=2e-6, atol=2e-6)
    assert out_THV[2:].isnan().all()
    assert lse_TH[2:].isnan().all()


def test_tensors_may_be_slices_of_wider_ones():
    case = make([(1, 20), (2, 40)], heads=3, latent_dim=16, rotary_dim=16)
    step = (case.tables_SM, case.query_starts_S1, case.seq_lens_S)
    k_cache, _ = case.cache(reference, torch.float32)
    wide_q, wide_out = torch.full((3, 5, 40), float("nan")), torch.full((3, 4, 20), float("nan"))
    wide_cache = torch.full((case.num_blocks, 2, 16, 48), float("nan"))
    q_THW, out_THV, cache_NBW = wide_q[:, 1:4, 3:35], wide_out[:, 1:, 2:18], wide_cache[:, 1, :, 8:40]
    q_THW.copy_(case.q_THD)
    cache_NBW.copy_(k_cache[:, 0])
    kernels.mla_decode(q_THW, cache_NBW, *step, out_THV, scale=case.scale)
    expected_THV = torch.empty(3, 3, 16).double()
    reference.mla_decode(q_THW.double(), cache_NBW.double(), *step, expected_THV, scale=case.scale)
    torch.testing.assert_close(out_THV.double(), expected_THV, rtol=2e-6, atol=2e-6)
    assert wide_out[:, 0].isnan().all()
    assert wide_out[..., 18:].isnan().all()
    assert wide_out[..., :2].isnan().all()


@DTYPES
@pytest.mark.parametrize("width", [20, 576])
def test_rows_are_stored_where_their_slots_say(dtype, width):
    generator = torch.Generator().manual_seed(3)
    wide_rows = torch.randn(9, width + 4, generator=generator).to(dtype)
    slots_T = torch.randperm(3 * 16, generator=generator)[:9]
    slots_T[[2, 7]] = torch.tensor([-1, -40])
    caches = [torch.full((3, 16, width + 8), float("nan"), dtype=dtype) for _ in range(2)]
    for ops, cache in zip((kernels, reference), caches, strict=True):
        ops.store_latents(wide_rows[:, 1 : width + 1], cache[..., 4 : width + 4], slots_T)
    torch.testing.assert_close(*caches, rtol=0, atol=0, equal_nan=True)
    assert caches[0].isfinite().any(dim=-1).sum() == 7


def test_the_interpreter_refuses_bfloat16():
    case = make([(1, 3)], heads=1, latent_dim=16, rotary_dim=16)
    with pytest.raises(ValueError, match="q_THW has dtype bfloat16, which Triton's interpreter"):
        decode_latents(kernels, case, case.q_THD.bfloat16(), latent_dim=16, scale=1.0)
