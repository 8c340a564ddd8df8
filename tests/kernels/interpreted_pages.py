"""Page-selected attention under the interpreter, in seconds; interpreted_quest.py has more."""

import pytest
import torch
from page_cases import Pages, check, decoding

from quire_kernels import reference
from quire_kernels import triton as kernels
from quire_kernels.triton import quest


@pytest.mark.parametrize(("dtype", "shares"), [(torch.float32, 1), (torch.float16, 2)], ids=str)
def test_bounds_scores_and_attention(monkeypatch, dtype, shares):
    monkeypatch.setattr(quest, "attention_shares", lambda *_, **__: shares)
    options = {"softcap": 2.0, "alibi": True, "sinks": True}
    check(decoding([35, 1, 18], heads=4, dtype=dtype, **options), dtype, chosen=2)


@pytest.mark.parametrize("shares", [1, 2])
def test_a_sequence_of_no_tokens_has_no_pages_and_a_row_of_zeros(monkeypatch, shares):
    monkeypatch.setattr(quest, "attention_shares", lambda *_, **__: shares)
    case = decoding([20, 40], sinks=True)
    pages = Pages(kernels, case, torch.float32)
    case.seq_lens_S[0] = 0
    scores_SKP = pages.scores()
    assert scores_SKP[0].isneginf().all()
    out_SHD = pages.attend(scores_SKP.topk(2, dim=-1).indices)
    assert out_SHD[0].count_nonzero() == 0
    assert out_SHD[1].isfinite().all()


def test_bounds_grow_with_a_page_and_begin_anew_with_the_next_that_uses_it():
    """Prompts, chunks and single tokens, of several sequences in a step, some of no slot."""
    generator = torch.Generator().manual_seed(5)
    kv_heads, head_dim, block_size = 2, 20, 16
    bounds = {ops: torch.full((2, 4, kv_heads, head_dim), float("nan")) for ops in (kernels, reference)}
    stored = {}
    steps = [
        [*range(16, 27), 48, 49],  # a prompt over eleven slots of page 1, another begins page 3
        [27, 50, -1, -1],  # decoding, in a graph for four
        [*range(28, 32), *range(3)],  # the end of page 1, and on in page 0
        [*range(51, 64), *range(16, 20)],  # and page 1 is another's
    ]
    for slots in steps:
        wide_TKD = torch.randn(len(slots), kv_heads + 1, head_dim + 4, generator=generator)
        k_TKD = wide_TKD[:, 1:, :head_dim]
        for ops, (least, largest) in bounds.items():
            ops.store_bounds(k_TKD, least, largest, torch.tensor(slots), block_size=block_size)
        for slot, k_KD in zip(slots, k_TKD, strict=True):
            if slot % block_size == 0:
                stored[slot // block_size] = []
            if slot >= 0:
                stored[slot // block_size].append(k_KD)
        torch.testing.assert_close(bounds[kernels], bounds[reference], rtol=0, atol=0, equal_nan=True)
        for block in range(4):
            if block in stored:
                rows = torch.stack(stored[block])
                expected = torch.stack([rows.amin(0), rows.amax(0)])
                torch.testing.assert_close(bounds[kernels][:, block], expected, rtol=0, atol=0)
            else:
                assert bounds[kernels][:, block].isnan().all()
