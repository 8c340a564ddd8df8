"""The oracles of merged and of latent attention against torch's own attention over the whole."""

import torch
from cases import attention_case, decode_latents
from torch.nn import functional

from quire_kernels import reference


def attend(q_THD, k_LHD, v_LHD, *, scale=None):
    """(output [T, H, D], log-sum-exp [T, H]) of queries that see all keys."""
    scale = q_THD.shape[-1] ** -0.5 if scale is None else scale
    scores_THL = torch.einsum("thd,lhd->thl", q_THD, k_LHD) * scale
    return torch.einsum("thl,lhd->thd", scores_THL.softmax(-1), v_LHD), scores_THL.logsumexp(-1)


def test_parts_merge_to_the_whole():
    generator = torch.Generator().manual_seed(0)
    q_THD, k_LHD, v_LHD = (
        torch.randn(n, 2, 8, generator=generator, dtype=torch.float64) for n in (3, 23, 23)
    )
    parts = [attend(q_THD, k_LHD[a:b], v_LHD[a:b]) for a, b in ((0, 5), (5, 6), (6, 23))]
    nothing = torch.full((3, 2, 8), torch.nan).double(), torch.full((3, 2), -torch.inf).double()
    outs, lses = zip(*parts, nothing, strict=True)
    out_THD, lse_TH = torch.empty_like(q_THD), torch.empty(3, 2).double()
    reference.merge_states(torch.stack(outs), torch.stack(lses), out_THD, lse_TH=lse_TH)
    expected_THD, expected_TH = attend(q_THD, k_LHD, v_LHD)
    torch.testing.assert_close(out_THD, expected_THD)
    torch.testing.assert_close(lse_TH, expected_TH)


def test_sinks_count_once():
    """A sink is a key with a score of its own and a value of zero."""
    generator = torch.Generator().manual_seed(1)
    q_THD, k_LHD, v_LHD = (torch.randn(n, 1, 4, generator=generator).double() for n in (2, 9, 9))
    outs, lses = zip(*(attend(q_THD, k_LHD[a:b], v_LHD[a:b]) for a, b in ((0, 4), (4, 9))), strict=True)
    out_THD = torch.empty_like(q_THD)
    reference.merge_states(torch.stack(outs), torch.stack(lses), out_THD, sinks_H=torch.tensor([0.7]))
    scores_TL = q_THD[:, 0] @ k_LHD[:, 0].T / 2
    with_sink = torch.cat([scores_TL, torch.full((2, 1), 0.7).double()], dim=1).softmax(-1)
    torch.testing.assert_close(out_THD[:, 0], with_sink[:, :-1] @ v_LHD[:, 0], rtol=1e-7, atol=1e-7)


def test_a_row_without_keys_is_zero():
    out_THD, lse_TH = torch.ones(1, 1, 4), torch.ones(1, 1)
    reference.merge_states(
        torch.full((2, 1, 1, 4), torch.nan), torch.full((2, 1, 1), -torch.inf), out_THD, lse_TH=lse_TH
    )
    assert out_THD.count_nonzero() == 0
    assert lse_TH.isneginf().all()


def test_absorbed_projections_give_what_projected_keys_and_values_give():
    """As the paper has it: every head's keys and values projected from latents, then ordinary attention."""
    heads, latent, rotary, nope, value, block = 3, 24, 8, 16, 12, 16
    generator = torch.Generator().manual_seed(2)
    case = attention_case(
        [(1, 20), (4, 33), (5, 5)], heads=heads, kv_heads=1, head_dim=latent + rotary, block_size=block
    )
    up_k_HDV = torch.randn(heads, nope, latent, generator=generator).double()
    up_v_HDV = torch.randn(heads, value, latent, generator=generator).double()
    q_nope_THD = torch.randn(len(case.q_THD), heads, nope, generator=generator).double()
    q_rotary_THP = case.q_THD[..., latent:].double()
    absorbed_THV = torch.einsum("thd,hdv->thv", q_nope_THD, up_k_HDV)
    scale = (nope + rotary) ** -0.5
    out_THV, _ = decode_latents(
        reference, case, torch.cat([absorbed_THV, q_rotary_THP], dim=-1), latent_dim=latent, scale=scale
    )
    out_THD = torch.einsum("thv,hdv->thd", out_THV, up_v_HDV)

    tokens = 0
    for s, length in enumerate(case.seq_lens_S.tolist()):
        rows = slice(case.query_starts_S1[s], case.query_starts_S1[s + 1])
        row_LW = case.k_LKD[tokens : tokens + length, 0].double()
        tokens += length
        k_HLD = torch.einsum("lv,hdv->hld", row_LW[:, :latent], up_k_HDV)
        v_HLD = torch.einsum("lv,hdv->hld", row_LW[:, :latent], up_v_HDV)
        shared_HLP = row_LW[:, latent:].expand(heads, -1, -1)
        q_HnD = torch.cat([q_nope_THD[rows], q_rotary_THP[rows]], dim=-1).transpose(0, 1)
        n = q_HnD.shape[1]
        visible_nL = torch.arange(length) <= torch.arange(length - n, length)[:, None]
        expected_HnD = functional.scaled_dot_product_attention(
            q_HnD, torch.cat([k_HLD, shared_HLP], dim=-1), v_HLD, attn_mask=visible_nL, scale=scale
        )
        torch.testing.assert_close(out_THD[rows], expected_HnD.transpose(0, 1))
