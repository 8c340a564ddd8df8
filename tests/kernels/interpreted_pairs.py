"""Pairs of tokens and experts under the interpreter, against sorting them and against float64."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quire_kernels import reference
from quire_kernels import triton as kernels

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])


@st.composite
def routings(draw) -> tuple[int, list[list[int]]]:
    """Experts, and for each token the same number of them; the same one twice is as good as two."""
    experts = draw(st.integers(1, 40))
    per_token = draw(st.integers(1, 8))
    some = st.lists(st.integers(0, experts - 1), min_size=per_token, max_size=per_token)
    return experts, draw(st.lists(some, min_size=1, max_size=20))


def sorted_pairs(sort, chosen_Tk: torch.Tensor, experts: int) -> list[torch.Tensor]:
    shapes = ((chosen_Tk.numel(),), chosen_Tk.shape, (experts,))
    made = [torch.full(shape, -1, dtype=torch.int32) for shape in shapes]
    sort(chosen_Tk, *made)
    return made


@settings(max_examples=25, deadline=None)
@given(routings())
@example((3, [[1]] * 150))
@example((40, [[39, 0, 7, 8, 9, 10, 11, 12]] * 20))
@example((1, [[0]]))
def test_pairs_are_sorted_by_expert_and_number(routing: tuple[int, list[list[int]]]) -> None:
    experts, chosen = routing
    chosen_Tk = torch.tensor(chosen)
    got = sorted_pairs(kernels.sort_pairs, chosen_Tk, experts)
    for ours, expected in zip(got, sorted_pairs(reference.sort_pairs, chosen_Tk, experts), strict=True):
        assert torch.equal(ours, expected)


def test_no_tokens_are_no_pairs():
    chosen_Tk = torch.empty(0, 4, dtype=torch.int64)
    *_, ends_X = sorted_pairs(kernels.sort_pairs, chosen_Tk, 50)
    assert not ends_X.any()
    out_TE = torch.empty(0, 8)
    kernels.sum_pairs(torch.empty(0, 8), chosen_Tk.int(), torch.empty(0, 4), out_TE)


@DTYPES
@pytest.mark.parametrize("places", [torch.int32, torch.int64])
def test_results_are_summed_in_float32(dtype, places):
    generator = torch.Generator().manual_seed(0)
    y_PE = torch.randn(3 * 5, 1100, generator=generator).to(dtype)
    places_Tk = torch.randperm(15, generator=generator).view(5, 3).to(places)
    shares_Tk = torch.rand(5, 3, generator=generator)
    out_TE, expected = torch.full((5, 1100), float("nan"), dtype=dtype), torch.empty(5, 1100).double()
    kernels.sum_pairs(y_PE, places_Tk, shares_Tk, out_TE)
    reference.sum_pairs(y_PE.double(), places_Tk, shares_Tk, expected)
    tolerance = {torch.float32: 1e-6, torch.float16: 1e-3}[dtype]
    torch.testing.assert_close(out_TE.double(), expected, rtol=tolerance, atol=tolerance)
