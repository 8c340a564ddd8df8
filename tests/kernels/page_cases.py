"""Decoding rows and the pages of their sequences, for the tests of page-selected attention."""

from types import ModuleType

import torch
from cases import AttentionCase, attention_case

from quire_kernels import reference
from quire_kernels import triton as kernels

LENGTHS = [33, 1, 100, 16]
TOLERANCE = {torch.float32: {"rtol": 3e-6, "atol": 3e-6}, torch.float16: {"rtol": 2e-3, "atol": 1e-3}}


def decoding(lengths: list[int] = LENGTHS, **options) -> AttentionCase:
    fixed = {"heads": 6, "kv_heads": 2, "head_dim": 24, "block_size": 16}
    return attention_case([(1, length) for length in lengths], **{**fixed, **options})


class Pages:
    """A case's tokens stored by `ops`, with the bounds of a page behind its keys and behind its values."""

    def __init__(self, ops: ModuleType, case: AttentionCase, dtype: torch.dtype) -> None:
        self.ops, self.case = ops, case
        _, kv_heads, head_dim = case.k_LKD.shape
        self.q_SHD = case.q_THD.to(dtype)
        shape = (case.num_blocks, case.block_size + 1, kv_heads, head_dim)
        rows = [torch.full(shape, float("nan"), dtype=dtype) for _ in range(2)]
        self.caches = [each[:, :-1].transpose(1, 2) for each in rows]
        self.bounds = [each[:, -1] for each in rows]
        k, v = case.k_LKD.to(dtype), case.v_LKD.to(dtype)
        ops.store_kv(k, v, *self.caches, case.slots_L)
        ops.store_bounds(k, *self.bounds, case.slots_L, block_size=case.block_size)
        self.options = {
            "scale": case.scale,
            "softcap": case.softcap,
            "alibi_slopes_H": case.alibi_slopes_H,
        }

    def scores(self) -> torch.Tensor:
        case, kv_heads = self.case, self.case.k_LKD.shape[1]
        pages = case.tables_SM.shape[1]  # one more than the longest sequence has
        wide = torch.promote_types(self.q_SHD.dtype, torch.float32)
        scores_SKP = torch.full((len(self.q_SHD), kv_heads, pages), float("nan"), dtype=wide)
        step = (case.tables_SM, case.seq_lens_S)
        block_size = case.block_size
        self.ops.page_scores(
            self.q_SHD, *self.bounds, *step, scores_SKP, block_size=block_size, **self.options
        )
        return scores_SKP

    def attend(self, pages_SKJ: torch.Tensor) -> torch.Tensor:
        out_SHD = torch.full_like(self.q_SHD, float("nan"))
        step = (self.case.tables_SM, self.case.seq_lens_S)
        sinks_H = self.case.sinks_H
        self.ops.attend_pages(
            self.q_SHD, *self.caches, *step, pages_SKJ, out_SHD, sinks_H=sinks_H, **self.options
        )
        return out_SHD


def check(case: AttentionCase, dtype: torch.dtype = torch.float32, *, chosen: int = 3) -> None:
    found, expected = Pages(kernels, case, dtype), Pages(reference, case, torch.float64)
    for bound, other in zip(found.bounds, expected.bounds, strict=True):
        torch.testing.assert_close(bound.double(), other, rtol=0, atol=0, equal_nan=True)
    scores_SKP = expected.scores()
    torch.testing.assert_close(found.scores().double(), scores_SKP, rtol=1e-5, atol=1e-5)
    pages_SKJ = scores_SKP.topk(chosen, dim=-1).indices.flip(-1).contiguous()
    torch.testing.assert_close(
        found.attend(pages_SKJ).double(), expected.attend(pages_SKJ), **TOLERANCE[dtype]
    )
