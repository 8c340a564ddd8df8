"""ALiBi in the Triton attention, under the interpreter, in seconds; interpreted_attention.py has more."""

import pytest
import torch
from cases import attention_case

from quire_kernels import triton as kernels
from quire_kernels.triton import attention

TOLERANCE = {torch.float32: {"rtol": 2e-6, "atol": 2e-6}, torch.float16: {"rtol": 2e-3, "atol": 1e-3}}
SEQUENCES = {"decode": [(1, 33), (3, 17)], "mixed": [(20, 40), (1, 9)]}


@pytest.mark.parametrize(
    ("dtype", "kv_dtype", "shares"), [(torch.float32, None, 2), (torch.float16, torch.int8, 1)], ids=str
)
@pytest.mark.parametrize("sequences", SEQUENCES)
def test_a_slope_of_its_own_for_each_head(monkeypatch, dtype, sequences, shares, kv_dtype):
    monkeypatch.setattr(attention, "attention_shares", lambda *_, **__: shares)
    case = attention_case(
        SEQUENCES[sequences], heads=4, kv_heads=2, head_dim=16, block_size=16, alibi=True, dtype=dtype
    )
    out_THD, lse_TH = case.run(kernels, dtype, kv_dtype=kv_dtype)
    expected_THD, expected_TH = case.expected(kv_dtype)
    torch.testing.assert_close(out_THD.double(), expected_THD, **TOLERANCE[dtype])
    torch.testing.assert_close(lse_TH.double(), expected_TH, rtol=2e-6, atol=2e-6)


def test_it_is_a_bias_by_distance():
    """Against attention with the slopes written out as keys and queries of one dimension more each."""
    case = attention_case([(6, 6)], heads=2, kv_heads=2, head_dim=15, block_size=16, alibi=True)
    out_THD, _ = case.run(kernels, torch.float32)
    q, k, v = case.q_THD.double(), case.k_LKD.double(), case.v_LKD.double()
    slopes_H1 = case.alibi_slopes_H.double()[:, None]
    q = torch.cat([q * case.scale, slopes_H1.expand(6, 2, 1)], dim=-1)
    k = torch.cat([k, torch.arange(6.0).double()[:, None, None].expand(6, 2, 1)], dim=-1)
    expected = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(0, 1) for x in (q, k, v)), is_causal=True, scale=1.0
    )
    torch.testing.assert_close(out_THD.double(), expected.transpose(0, 1), rtol=2e-6, atol=2e-6)
