"""A vocabulary's table of which each rank holds some rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.interfaces.ops import Head

if TYPE_CHECKING:
    import torch

    from quire.runtime.rank_group import RankGroup


class ShardedHead(Head):
    """`head` has this rank's rows; embeddings and logits are the whole table's, on every rank."""

    def __init__(self, head: Head, *, group: RankGroup, vocab_size: int) -> None:
        self._head = head
        self._group = group
        self._vocab_size = vocab_size
        self._first, self._end = group.share.of(vocab_size)

    def embed(self, ids_T: torch.Tensor) -> torch.Tensor:
        held_T = (ids_T >= self._first) & (ids_T < self._end)
        rows_TE = self._head.embed((ids_T - self._first).clamp(0, max(self._end - self._first - 1, 0)))
        return self._group.add(rows_TE * held_T[:, None])

    def logits(self, hidden_RE: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        mine_RV = self._head.logits(hidden_RE)
        missing = self._group.share.longest(self._vocab_size) - mine_RV.shape[1]
        if missing:
            mine_RV = functional.pad(mine_RV, (0, missing))
        return self._group.join_columns(mine_RV)[:, : self._vocab_size].contiguous()
