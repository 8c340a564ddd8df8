"""The processes that compute one model together, each its share of every layer."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from quire.models.shard import Share


class RankGroup:
    """Sums and gathers over all ranks, by nccl on GPUs and gloo on CPUs; of its kind one a process.

    Every rank makes the same calls in the same order, with tensors of the same shapes; all get the same bits.
    """

    def __init__(self, *, share: Share, device: str, rendezvous: Path, seconds: float) -> None:
        """Returns when all ranks have come to the file `rendezvous`, made for this group alone, within
        `seconds`; no call may take longer either. Raises RuntimeError if one does.
        """
        self.share = share
        dist.init_process_group(
            "nccl" if device == "cuda" else "gloo",
            init_method=rendezvous.as_uri(),
            rank=share.rank,
            world_size=share.size,
            timeout=timedelta(seconds=seconds),
        )

    def add(self, x: torch.Tensor) -> torch.Tensor:
        """The sum over the ranks, in place of `x`."""
        dist.all_reduce(x)
        return x

    def join_columns(self, x_RV: torch.Tensor) -> torch.Tensor:
        """What all ranks have, side by side in their order: [R, V] -> [R, size * V]."""
        parts = [torch.empty_like(x_RV) for _ in range(self.share.size)]
        dist.all_gather(parts, x_RV)
        return torch.cat(parts, dim=1)

    def close(self) -> None:
        """Leave the group."""
        dist.destroy_process_group()
