"""Packing and its attention against a plain loop over texts with a full mask."""

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.models.packed_attention import Reach, attend
from quire.models.packed_texts import group_texts, pack

CPU = torch.device("cpu")
REACHES = [Reach(), Reach(ahead=0), Reach(back=3, ahead=0), Reach(back=5, ahead=5), Reach(back=0, ahead=2)]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_groups_cover_the_tokens_in_order_and_pad_little(lengths):
    end, texts = 0, 0
    for group in group_texts(lengths, device=CPU):
        members = lengths[texts : texts + group.count]
        assert group.rows == slice(end, end + sum(members))
        assert group.longest == max(members)
        assert max(members) <= max(1.25 * min(members), min(members) + 4)
        assert (group.cells_NL is None) == (min(members) == max(members))
        end, texts = group.rows.stop, texts + group.count
    assert (end, texts) == (sum(lengths), len(lengths))


def test_packing_keeps_ids_positions_and_types():
    packed = pack([[5, 6], [7], [8, 9, 10]], [[0, 1], [0], [0, 0, 1]], device=CPU)
    assert packed.token_ids_T.tolist() == [5, 6, 7, 8, 9, 10]
    assert packed.positions_T.tolist() == [0, 1, 0, 0, 1, 2]
    assert packed.type_ids_T.tolist() == [0, 1, 0, 0, 0, 1]
    assert packed.lengths_S.tolist() == [2, 1, 3]


@settings(max_examples=30)
@given(
    st.lists(st.integers(1, 24), min_size=1, max_size=6),
    st.sampled_from(REACHES),
    st.sampled_from([(4, 4), (4, 2), (3, 1)]),
)
def test_attention_is_that_of_each_text_alone(lengths, reach, heads):
    check(lengths, reach, *heads)


def test_windows_go_on_from_block_to_block_of_queries():
    check([600, 601], Reach(back=70, ahead=9), 2, 2)
    check([530, 610], Reach(back=300, ahead=0), 2, 1)


def check(lengths, reach, heads, kv_heads):
    generator = torch.Generator().manual_seed(sum(lengths))
    total = sum(lengths)
    # strided, as slices of one projection are
    joined = torch.randn(total, heads + 2 * kv_heads, 8, generator=generator)
    q, k, v = joined.split([heads, kv_heads, kv_heads], dim=1)
    out = torch.full((total, heads, 8), float("nan"))
    attend(q, k, v, group_texts(lengths, device=CPU), out, scale=0.3, reach=reach)
    starts = torch.tensor([0, *lengths]).cumsum(0).tolist()
    for first, end in itertools.pairwise(starts):
        expected = alone(q[first:end], k[first:end], v[first:end], reach)
        torch.testing.assert_close(out[first:end], expected, atol=1e-5, rtol=1e-5)


def alone(q, k, v, reach):
    """In float64, with a full mask."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.double().repeat_interleave(group, dim=1) for x in (k, v))
    away = torch.arange(q.shape[0])[None] - torch.arange(q.shape[0])[:, None]
    scores = torch.einsum("qhd,khd->hqk", q.double(), k) * 0.3
    if reach.back is not None:
        scores = scores.masked_fill(away < -reach.back, float("-inf"))
    if reach.ahead is not None:
        scores = scores.masked_fill(away > reach.ahead, float("-inf"))
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).float()
