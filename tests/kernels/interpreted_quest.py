"""Page-selected attention under the interpreter: bounds, scores of pages, attention to some of them."""

import pytest
import torch
from page_cases import LENGTHS, Pages, check, decoding

from quire_kernels import triton as kernels
from quire_kernels.triton import quest

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])


@DTYPES
@pytest.mark.parametrize("shares", [1, 2, 5])
@pytest.mark.parametrize(
    "options", [{}, {"softcap": 2.0, "alibi": True, "sinks": True}], ids=["plain", "all"]
)
def test_bounds_scores_and_attention(monkeypatch, dtype, shares, options):
    monkeypatch.setattr(quest, "attention_shares", lambda *_, **__: shares)
    check(decoding(dtype=dtype, **options), dtype)


@pytest.mark.parametrize("shape", [{"heads": 4, "kv_heads": 4}, {"heads": 20, "kv_heads": 1}], ids=str)
@pytest.mark.parametrize("block_size", [16, 64])
def test_groups_and_sizes_of_pages(shape, block_size):
    check(decoding([block_size - 1, 3 * block_size + 2], block_size=block_size, **shape), chosen=2)


def test_slopes_that_favour_the_past():
    case = decoding(alibi=True)
    case.alibi_slopes_H.neg_()
    check(case)


def test_all_pages_are_everything():
    case = decoding()
    pages = Pages(kernels, case, torch.float32)
    columns = case.tables_SM.shape[1]
    every_SKJ = torch.arange(columns).expand(len(LENGTHS), 2, columns).contiguous()
    out_THD, _ = case.expected()
    torch.testing.assert_close(pages.attend(every_SKJ).double(), out_THD, rtol=3e-6, atol=3e-6)


def test_the_interpreter_refuses_bfloat16():
    pages = Pages(kernels, decoding([9]), torch.float32)
    pages.q_SHD = pages.q_SHD.bfloat16()
    with pytest.raises(ValueError, match="q_SHD has dtype bfloat16, which Triton's interpreter"):
        pages.scores()
