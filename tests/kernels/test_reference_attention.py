"""The oracle against torch's own attention and against a softmax written out for one row."""

import pytest
import torch
from cases import attention_case, mixed_sequences
from torch.nn import functional

from quire_kernels import reference


def by_sequence(case):
    tokens = 0
    for s, length in enumerate(case.seq_lens_S.tolist()):
        rows = slice(case.query_starts_S1[s], case.query_starts_S1[s + 1])
        yield rows, case.k_LKD[tokens : tokens + length], case.v_LKD[tokens : tokens + length]
        tokens += length


@pytest.mark.parametrize("window", [None, 1, 20])
def test_agrees_with_torch_attention(window):
    case = attention_case(mixed_sequences(16), heads=6, kv_heads=2, head_dim=16, block_size=16, window=window)
    out_THD, _ = case.run(reference, torch.float64)
    for rows, k_LKD, v_LKD in by_sequence(case):
        n, length = case.q_THD[rows].shape[0], k_LKD.shape[0]
        if n == 0:
            continue
        distance = torch.arange(length - n, length)[:, None] - torch.arange(length)[None]
        mask = (distance >= 0) & (distance < (window or length))
        q, k, v = (x.double().transpose(0, 1)[None] for x in (case.q_THD[rows], k_LKD, v_LKD))
        expected = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        torch.testing.assert_close(out_THD[rows], expected[0].transpose(0, 1))


def test_softcap_sinks_and_lse_of_one_row():
    case = attention_case([(1, 9)], heads=2, kv_heads=1, head_dim=16, block_size=16, softcap=2.0, sinks=True)
    out_THD, lse_TH = case.run(reference, torch.float64)
    for h in range(2):
        scores = case.k_LKD[:, 0].double() @ case.q_THD[0, h].double() * case.scale
        weights = torch.exp(2.0 * torch.tanh(scores / 2.0))
        total = weights.sum() + torch.exp(case.sinks_H[h].double())
        torch.testing.assert_close(lse_TH[0, h], torch.log(total))
        torch.testing.assert_close(out_THD[0, h], weights @ case.v_LKD[:, 0].double() / total)


def test_float32_inputs_stay_close_to_float64():
    case = attention_case([(4, 40)], heads=4, kv_heads=2, head_dim=32, block_size=16)
    out_THD, lse_TH = case.run(reference, torch.float32)
    expected_THD, expected_TH = case.expected()
    torch.testing.assert_close(out_THD, expected_THD.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(lse_TH, expected_TH.float(), rtol=1e-5, atol=1e-6)
