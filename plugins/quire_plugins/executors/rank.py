"""One rank of several that compute a model together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.interfaces.executor import ExecutorContext
from quire_plugins.executors.local import LocalConfig, LocalExecutor

if TYPE_CHECKING:
    from quire.runtime.decode_graphs import Capture
    from quire.runtime.rank_group import RankGroup


class Rank(LocalExecutor):
    """Its share of each layer, on the GPU of its number or with its part of a CPU's threads."""

    def __init__(self, *, config: LocalConfig, context: ExecutorContext, group: RankGroup) -> None:
        import torch

        self._share = group.share
        if context.device == "cpu":
            torch.set_num_threads(max(1, torch.get_num_threads() // group.share.size))
        else:
            torch.cuda.set_device(group.share.rank)
        super().__init__(config=config, context=context, group=group)

    def _free_host_bytes(self) -> int:
        return super()._free_host_bytes() // self._share.size

    def _capture(self) -> Capture | None:
        return None
