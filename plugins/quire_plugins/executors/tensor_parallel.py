"""The executor of one model on several devices, or in several processes of one CPU.

    engine -- plan --> rank 0, in this process    ┐ each its heads, inner dimensions and part of the
                   --> rank 1, a process          ┘ vocabulary; sums after each block, the same logits on all

Every rank gets every plan and draws the same tokens from the same logits, so that nothing has to come back.
"""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quire.config.checks import check_above_zero
from quire.engine.plan import StepPlan, StepResult
from quire.errors import MissingCapability, UserError
from quire.interfaces.allocator import KVLayout
from quire.interfaces.executor import ExecutorContext
from quire_plugins.executors.local import LocalConfig
from quire_plugins.executors.rank import Rank
from quire_plugins.executors.rank_process import RankProcess

if TYPE_CHECKING:
    from quire.runtime.rank_group import RankGroup

_LOOK_SECONDS = 1.0
"""How often to look whether all ranks live while a step takes its time."""


@dataclass
class TensorParallelConfig(LocalConfig):
    """Options of `executor=tensor_parallel`; those of `local` hold for each rank."""

    ranks: int = 2
    """Processes among which each layer is divided: on GPUs one for each, from the first on; on a CPU they
    share the threads. Must divide the model's KV heads and its inner dimensions."""
    timeout_s: float = 300.0
    """Seconds that a rank may wait for the others, at the start and in a step, before it gives up."""
    cuda_graphs: bool = False
    """Must be false: steps of several ranks are launched one by one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ranks < 1:
            raise UserError(f"executor.ranks={self.ranks}: must be at least 1")
        check_above_zero("executor", self, "timeout_s", what="number of seconds")
        if self.cuda_graphs:
            raise UserError(
                "executor.cuda_graphs=true: must be false with executor=tensor_parallel, whose ranks launch "
                "their steps one by one"
            )


class TensorParallelExecutor(Rank):
    """Divides each layer among processes, after Shoeybi et al., Megatron-LM (2019), section 3."""

    Config = TensorParallelConfig

    def __init__(self, *, config: TensorParallelConfig, context: ExecutorContext) -> None:
        from quire.models.shard import Share
        from quire.runtime import rank_group

        _check_devices(config, context)
        assert context.config is not None
        self._group: RankGroup | None = None
        self._others: list[RankProcess] = []
        self._meeting = Path(tempfile.mkdtemp(prefix="quire-ranks-"))
        rendezvous = self._meeting / "store"
        try:
            for rank in range(1, config.ranks):
                share = Share(rank=rank, size=config.ranks)
                self._others.append(
                    RankProcess(
                        share=share,
                        config=context.config,
                        rendezvous=rendezvous,
                        seconds=config.timeout_s,
                    )
                )
            for other in self._others:
                other.reply()  # it has all it needs but the model
            self._group = rank_group.RankGroup(
                share=Share(rank=0, size=config.ranks),
                device=context.device,
                rendezvous=rendezvous,
                seconds=config.timeout_s,
            )
            super().__init__(config=config, context=context, group=self._group)
            for other in self._others:
                other.reply()  # it has loaded its share
        except BaseException:
            self._leave()
            raise

    def free_bytes(self) -> int:
        return min([super().free_bytes(), *self._ask_all("free_bytes")])

    def start(self, layout: KVLayout, *, max_sequences: int) -> None:
        for other in self._others:
            other.call("start", layout, max_sequences=max_sequences)
        super().start(layout, max_sequences=max_sequences)
        for other in self._others:
            other.reply()

    def submit(self, plan: StepPlan) -> None:
        for other in self._others:
            other.call("submit", plan)
        super().submit(plan)

    def collect(self) -> StepResult:
        step = self._steps[0]
        while not wait([step], timeout=_LOOK_SECONDS).done:
            for other in self._others:
                other.check()
        if step.exception() is not None:
            for other in self._others:
                other.check(_LOOK_SECONDS)  # a rank that ends is missed by the others first
        return super().collect()

    def close(self) -> None:
        super().close()
        self._leave()

    def _ask_all(self, name: str) -> list[int]:
        for other in self._others:
            other.call(name)
        return [other.reply() for other in self._others]

    def _leave(self) -> None:
        for other in self._others:
            other.close()
        self._others.clear()
        if self._group is not None:
            self._group.close()
            self._group = None
        shutil.rmtree(self._meeting, ignore_errors=True)


def _check_devices(config: TensorParallelConfig, context: ExecutorContext) -> None:
    if context.config is None:
        raise MissingCapability("executor=tensor_parallel: needs the run's configuration for its processes")
    if context.device != "cuda":
        return
    import torch

    if config.ranks > torch.cuda.device_count():
        raise UserError(
            f"executor.ranks={config.ranks}: must be at most {torch.cuda.device_count()}, the GPUs of this "
            "machine"
        )
