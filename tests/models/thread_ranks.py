"""Ranks that are threads of the test: what RankGroup does between processes, by barriers."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from quire.models.shard import Share
from quire.runtime.rank_group import RankGroup

T = TypeVar("T")
_SECONDS = 60.0


class ThreadRank(RankGroup):
    def __init__(self, share: Share, barrier: threading.Barrier, brought: list[Tensor | None]) -> None:
        self.share = share
        self._barrier = barrier
        self._brought = brought

    def add(self, x: Tensor) -> Tensor:
        return x.copy_(torch.stack(self._exchange(x)).sum(dim=0))

    def join_columns(self, x_RV: Tensor) -> Tensor:
        return torch.cat(self._exchange(x_RV), dim=1)

    def close(self) -> None:
        self._barrier.abort()

    def _exchange(self, x: Tensor) -> list[Tensor]:
        self._brought[self.share.rank] = x.clone()
        self._barrier.wait(_SECONDS)
        parts = [part for part in self._brought if part is not None]
        self._barrier.wait(_SECONDS)
        return parts


def on_ranks(size: int, work: Callable[[RankGroup], T]) -> list[T]:
    """What each of `size` ranks makes of it, in threads of their own that wait for each other."""
    barrier, brought = threading.Barrier(size), list[Tensor | None]([None] * size)
    ranks = [ThreadRank(Share(rank=rank, size=size), barrier, brought) for rank in range(size)]

    def run(rank: ThreadRank) -> T:
        try:
            return work(rank)
        except BaseException:
            rank.close()
            raise

    with ThreadPoolExecutor(max_workers=size) as pool:
        return list(pool.map(run, ranks))
