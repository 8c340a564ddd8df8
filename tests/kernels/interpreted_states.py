"""Merged attention states and a little latent attention under the interpreter: what every run can afford."""

import pytest
import torch
from cases import attention_case, decode_latents

from quire_kernels import reference
from quire_kernels import triton as kernels
from quire_kernels.triton import mla

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
TOLERANCE = {
    torch.float32: {"rtol": 2e-6, "atol": 2e-6},
    torch.float16: {"rtol": 1e-3, "atol": 1e-5},  # rounded once
}


def states(parts: int, *shape: int, dtype: torch.dtype = torch.float32, seed: int = 0):
    """Outputs and log-sum-exps of so many parts, about a third of them of no keys and NaN; row 0 has none."""
    generator = torch.Generator().manual_seed(seed)
    parts_CTHD = torch.randn(parts, *shape, generator=generator).to(dtype)
    lses_CTH = torch.randn(parts, *shape[:-1], generator=generator) * 3
    empty_CTH = torch.rand(lses_CTH.shape, generator=generator) < 0.3
    empty_CTH[:, 0] = True
    return parts_CTHD.masked_fill(empty_CTH[..., None], torch.nan), lses_CTH.masked_fill(
        empty_CTH, -torch.inf
    )


def merged(ops, parts_CTHD, lses_CTH, *, out=None, **options):
    out_THD = torch.full(parts_CTHD.shape[1:], torch.nan, dtype=out or parts_CTHD.dtype)
    lse_TH = torch.full(lses_CTH.shape[1:], torch.nan, dtype=lses_CTH.dtype)
    ops.merge_states(parts_CTHD, lses_CTH, out_THD, lse_TH=lse_TH, **options)
    return out_THD, lse_TH


def expected(parts_CTHD, lses_CTH, **options):
    return merged(reference, parts_CTHD.double(), lses_CTH.double(), **options)


@DTYPES
@pytest.mark.parametrize("parts", [1, 2, 5, 17])
@pytest.mark.parametrize("head_dim", [24, 128])
def test_parts_merge(dtype, parts, head_dim):
    case = states(parts, 3, 2, head_dim, dtype=dtype)
    out_THD, lse_TH = merged(kernels, *case)
    expected_THD, expected_TH = expected(*case)
    torch.testing.assert_close(out_THD.double(), expected_THD, **TOLERANCE[dtype])
    torch.testing.assert_close(lse_TH.double(), expected_TH, rtol=2e-6, atol=2e-6)
    assert out_THD[0].count_nonzero() == 0
    assert lse_TH[0].isneginf().all()


def test_sinks_count_once():
    case = states(3, 4, 2, 16)
    sinks_H = torch.tensor([0.5, -torch.inf])
    for actual, wanted in zip(
        merged(kernels, *case, sinks_H=sinks_H), expected(*case, sinks_H=sinks_H), strict=True
    ):
        torch.testing.assert_close(actual.double(), wanted, rtol=2e-6, atol=2e-6)


def test_parts_of_very_different_weight():
    parts_CTHD, lses_CTH = states(3, 2, 1, 16)
    lses_CTH[:, 1, 0] = torch.tensor([-1e4, 1e4, 1e4 + 1.0])
    parts_CTHD = parts_CTHD.nan_to_num(2.0)
    out_THD, lse_TH = merged(kernels, parts_CTHD, lses_CTH)
    expected_THD, expected_TH = expected(parts_CTHD, lses_CTH)
    # A log-sum-exp of 1e4 is itself rounded to 1e-3.
    torch.testing.assert_close(out_THD.double(), expected_THD, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(lse_TH.double(), expected_TH, rtol=1e-6, atol=0)


def test_a_part_that_is_not_a_number_spoils_its_row_and_no_other():
    parts_CTHD, lses_CTH = states(2, 3, 2, 16)
    lses_CTH[1, 2, 0] = torch.nan
    out_THD, lse_TH = merged(kernels, parts_CTHD, lses_CTH)
    assert out_THD[2, 0].isnan().all()
    assert lse_TH[2, 0].isnan()
    assert out_THD.isnan().sum() == 16
    assert lse_TH.isnan().sum() == 1


def test_the_result_may_replace_a_part_and_parts_may_have_any_strides():
    parts_CTHD, lses_CTH = states(3, 4, 2, 16)
    expected_THD, expected_TH = expected(parts_CTHD, lses_CTH)
    wide = torch.full((4, 2, 3, 20), torch.nan)
    strided_CTHD = wide[..., 2:18].permute(2, 0, 1, 3)
    strided_CTHD.copy_(parts_CTHD)
    strided_CTH = torch.empty(4, 3, 2).transpose(0, 1).copy_(lses_CTH)
    kernels.merge_states(strided_CTHD, strided_CTH, strided_CTHD[1], lse_TH=strided_CTH[0])
    torch.testing.assert_close(strided_CTHD[1].double(), expected_THD, rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(strided_CTH[0].double(), expected_TH, rtol=2e-6, atol=2e-6)
    assert torch.equal(strided_CTHD[2].nan_to_num(9.0), parts_CTHD[2].nan_to_num(9.0))
    assert wide[..., :2].isnan().all()
    assert wide[..., 18:].isnan().all()


def test_a_result_of_another_type():
    case = states(2, 3, 1, 16)
    out_THD, _ = merged(kernels, *case, out=torch.float16)
    torch.testing.assert_close(out_THD.double(), expected(*case)[0], **TOLERANCE[torch.float16])


def test_a_cascade():
    """Three sequences begin with the same 32 tokens, attended to apart from their own; one has no more."""
    case = attention_case([(1, 37), (1, 32), (1, 49)], heads=4, kv_heads=2, head_dim=16, block_size=16)
    k_cache, v_cache = case.cache(kernels, torch.float32)
    tables_SM = case.tables_SM.clone()
    tables_SM[1:, :2] = tables_SM[0, :2]
    own_S = case.seq_lens_S - 32

    def attend(ops, rows, tables, lens, out, lse, wide=torch.float32):
        query_starts = torch.arange(len(lens) + 1, dtype=torch.int32)
        caches = (k_cache.to(wide), v_cache.to(wide))
        ops.paged_attention(
            case.q_THD[rows].to(wide), *caches, tables, query_starts, lens, out, scale=0.25, lse_TH=lse
        )

    parts = torch.full((2, 3, 4, 16), torch.nan)
    lses = torch.full((2, 3, 4), -torch.inf)
    own = own_S > 0
    attend(kernels, slice(None), tables_SM[:, :2], torch.full_like(own_S, 32), parts[0], lses[0])
    some, some_lses = torch.empty(2, 4, 16), torch.empty(2, 4)
    attend(kernels, own, tables_SM[own, 2:], own_S[own], some, some_lses)
    parts[1, own], lses[1, own] = some, some_lses
    out_THD, lse_TH = merged(kernels, parts, lses)

    expected_THD, expected_TH = torch.empty(3, 4, 16).double(), torch.empty(3, 4).double()
    attend(reference, slice(None), tables_SM, case.seq_lens_S, expected_THD, expected_TH, wide=torch.float64)
    torch.testing.assert_close(out_THD.double(), expected_THD, rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(lse_TH.double(), expected_TH, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("shares", [1, 3])
def test_latents(monkeypatch, shares):
    monkeypatch.setattr(mla, "mla_shares", lambda *_, **__: shares)
    case = attention_case([(1, 70), (2, 17), (0, 5)], heads=5, kv_heads=1, head_dim=48, block_size=16)
    options = {"latent_dim": 32, "scale": 0.15}
    out_THV, lse_TH = decode_latents(kernels, case, case.q_THD, **options)
    expected_THV, expected_TH = decode_latents(reference, case, case.q_THD.double(), **options)
    torch.testing.assert_close(out_THV.double(), expected_THV, rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(lse_TH.double(), expected_TH, rtol=2e-6, atol=2e-6)
