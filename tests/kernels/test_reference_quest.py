"""The oracle of page-selected attention against what defines it: all keys, one by one."""

import torch
from cases import attention_case

from quire_kernels import reference

BLOCK = 16


def stored(case):
    """(keys and values of the cache, least and largest keys of the blocks), in float64."""
    _, kv_heads, head_dim = case.k_LKD.shape
    bounds = [torch.full((case.num_blocks, kv_heads, head_dim), torch.nan).double() for _ in range(2)]
    reference.store_bounds(case.k_LKD.double(), *bounds, case.slots_L, block_size=BLOCK)
    return case.cache(reference, torch.float64), bounds


def test_a_page_scores_what_no_key_in_it_exceeds_and_a_key_at_its_corner_reaches():
    for options in ({}, {"alibi": True, "softcap": 0.8}):
        shape = {"heads": 4, "kv_heads": 2, "head_dim": 1, "block_size": BLOCK}
        case = attention_case([(1, 70), (1, 15)], **shape, **options)
        _, bounds = stored(case)
        scores_SKP = torch.empty(2, 2, 5).double()
        reference.page_scores(
            case.q_THD.double(), *bounds, case.tables_SM[:, :5], case.seq_lens_S, scores_SKP,
            block_size=BLOCK, scale=case.scale, softcap=case.softcap, alibi_slopes_H=case.alibi_slopes_H,
        )  # fmt: skip
        assert scores_SKP[0, :, 4].isposinf().all()
        assert scores_SKP[1, :, 0].isposinf().all()
        assert scores_SKP[1, :, 1:].isneginf().all()
        for head in range(2):
            for page in range(4):
                k_B = case.k_LKD[page * BLOCK : (page + 1) * BLOCK, head, 0].double()
                best = []
                for h in (2 * head, 2 * head + 1):
                    products_B = case.q_THD[0, h, 0].double() * k_B
                    if case.alibi_slopes_H is None:
                        best.append(products_B.max())
                        continue
                    capped_B = 0.8 * torch.tanh(products_B * case.scale / 0.8)
                    ahead_B = torch.arange(page * BLOCK, (page + 1) * BLOCK) - 69
                    best.append(capped_B.max() + (case.alibi_slopes_H[h].double() * ahead_B).max())
                torch.testing.assert_close(scores_SKP[0, head, page], max(best), rtol=1e-12, atol=1e-12)


def test_all_pages_are_everything():
    options = {"alibi": True, "sinks": True, "softcap": 2.0}
    case = attention_case([(1, 70), (1, 15)], heads=4, kv_heads=2, head_dim=8, block_size=BLOCK, **options)
    caches, _ = stored(case)
    out_SHD = torch.empty(2, 4, 8).double()
    reference.attend_pages(
        case.q_THD.double(), *caches, case.tables_SM, case.seq_lens_S,
        torch.arange(5).expand(2, 2, 5), out_SHD, scale=case.scale, softcap=case.softcap,
        alibi_slopes_H=case.alibi_slopes_H, sinks_H=case.sinks_H,
    )  # fmt: skip
    torch.testing.assert_close(out_SHD, case.expected()[0])


def test_a_single_page_is_a_sequence_of_its_tokens():
    case = attention_case([(1, 70)], heads=2, kv_heads=2, head_dim=8, block_size=BLOCK)
    caches, _ = stored(case)
    out_SHD = torch.empty(1, 2, 8).double()
    pages_SKJ = torch.tensor([[[1], [4]]])  # another for each head
    reference.attend_pages(
        case.q_THD.double(), *caches, case.tables_SM, case.seq_lens_S, pages_SKJ, out_SHD, scale=case.scale
    )
    for head, tokens in enumerate((slice(16, 32), slice(64, 70))):
        k, v = case.k_LKD[tokens, head].double(), case.v_LKD[tokens, head].double()
        expected = (k @ case.q_THD[0, head].double() * case.scale).softmax(0) @ v
        torch.testing.assert_close(out_SHD[0, head], expected)
