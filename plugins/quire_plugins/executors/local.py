"""The executor of one process and one device."""

from __future__ import annotations

import logging
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.engine.plan import StepPlan, StepResult
from quire.errors import UserError
from quire.interfaces.allocator import KVLayout
from quire.interfaces.executor import Executor, ExecutorContext
from quire.runtime.layer_cache import cache_spec
from quire.runtime.machine import available_bytes, keep_freed_memory, share_one_heap

if TYPE_CHECKING:
    from quire.runtime.decode_graphs import Capture
    from quire.runtime.launched import Launched
    from quire.runtime.rank_group import RankGroup

_log = logging.getLogger(__name__)


@dataclass
class LocalConfig:
    """How much of the machine's memory KV may take by default."""

    memory_fraction: float = 0.5
    """Fraction of the free memory for KV, where engine.kv_bytes is auto; in (0, 1)."""
    cuda_graphs: bool = True
    """On a GPU: replay decoding steps from CUDA graphs. Where the attention backend, or the way in which a
    model's experts are multiplied, does not allow it, the log says so and steps are launched one by one."""
    prefault: bool = False
    """On a CPU: write all KV memory before the first step, so that no step ever waits until the system finds
    pages. Some gigabytes take a second, and are taken from the start. Otherwise a thread has pages found some
    way ahead of their use, where the system is Linux 5.14 or later. A GPU's memory is there anyway."""

    def __post_init__(self) -> None:
        if not 0 < self.memory_fraction < 1:
            raise UserError(f"executor.memory_fraction={self.memory_fraction}: must be in (0, 1)")


class LocalExecutor(Executor):
    """Computes in this process, on one device; a thread runs the model while the engine schedules."""

    Config = LocalConfig

    def __init__(
        self, *, config: LocalConfig, context: ExecutorContext, group: RankGroup | None = None
    ) -> None:
        """With `group` it computes its rank's share of the model."""
        from quire.models.build import load_model
        from quire.models.kv_groups import kv_groups

        if context.device == "cpu":
            share_one_heap()
        self._config = config
        self._context = context
        self._thread = _runner_thread(context.device)
        # On the thread that will run it: OpenMP gives each thread that computes workers of its own, and where
        # all of them outnumber the CPUs, none spins between two parallel regions, which then cost 40 us.
        self._model = self._thread.submit(
            load_model,
            context.checkpoint,
            architectures=context.architectures,
            attention=context.attention,
            ops=context.ops,
            quantization=context.quantization,
            device=context.device,
            dtype=context.dtype,
            max_tokens=context.max_tokens,
            group=group,
        ).result()
        if context.device == "cpu":
            keep_freed_memory()  # from here on: what loading needed for a while goes back to the system
        self.info = self._model.info
        self.kv_groups = kv_groups(self._model.layers)
        self._runner = None
        self._defers = context.device == "cuda"
        """Steps are only launched when their futures are there; the results are worth waiting for later."""
        self._steps: deque[Future[StepResult] | Future[Launched]] = deque()
        self._finishing: Future[StepResult] | None = None

    def kv_block_bytes(self, block_size: int) -> tuple[int, ...]:
        totals = []
        for group in self.kv_groups:
            spec = cache_spec(
                self._context.attention,
                group,
                num_blocks=1,
                block_size=block_size,
                dtype=self._model.dtype,
                kv_dtype=self._context.kv_dtype,
            )
            totals.append(spec.nbytes * len(group.layers))
        return tuple(totals)

    def free_bytes(self) -> int:
        if self._context.device == "cuda":
            import torch

            free = torch.cuda.mem_get_info()[0]
        else:
            free = self._free_host_bytes()
        return int(free * self._config.memory_fraction)

    def start(self, layout: KVLayout, *, max_sequences: int) -> None:
        import torch

        from quire.runtime.runner import Runner

        self._check_host_memory(layout)
        self._drop_runner()  # started anew, it gives back the memory that it had before
        try:
            self._runner = Runner(
                model=self._model,
                attention=self._context.attention,
                sampler=self._context.sampler,
                processors=self._context.processors,
                layout=layout,
                device=torch.device(self._context.device),
                dtype=self._model.dtype,
                kv_dtype=self._context.kv_dtype,
                max_sequences=max_sequences,
                capture=self._capture(),
            )
        except (RuntimeError, MemoryError) as error:  # torch's and numpy's ways to say that memory is short
            kv_bytes = self._bytes_of(layout.num_blocks, layout.block_size)
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(
                f"engine.kv_bytes: {kv_bytes} bytes of KV memory, and room for engine.max_sequences="
                f"{max_sequences} of {layout.max_tokens} tokens, cannot be had: {reason}"
            ) from None
        if self._context.device == "cpu":
            if self._config.prefault:
                self._prefault(layout)
            else:
                self._runner.find_pages_ahead()

    def _prefault(self, layout: KVLayout) -> None:
        """On the thread that computes, whose OpenMP workers write it together."""
        assert self._runner is not None
        free, taken = self._free_host_bytes(), self._bytes_of(layout.num_blocks, layout.block_size)
        if taken > free:
            raise UserError(
                f"executor.prefault=true: {taken} bytes of KV memory (engine.kv_bytes) cannot be had:"
                f" {free} are free"
            )
        self._thread.submit(self._runner.write_caches).result()

    def _check_host_memory(self, layout: KVLayout) -> None:
        """Raise UserError if the host's blocks (and the device's, where they lie in the same memory) are more
        than it has: the system would grant them, and end the process once they are written.
        """
        if not layout.host_blocks:
            return
        on_cpu = self._context.device == "cpu"
        free, host = self._free_host_bytes(), self._bytes_of(layout.host_blocks, layout.block_size)
        taken = self._bytes_of(layout.num_blocks, layout.block_size) if on_cpu else 0
        if host + taken > free:
            beside = f" beside {taken} bytes of KV memory (engine.kv_bytes)" if on_cpu else ""
            raise UserError(
                f"allocator.host_bytes: {host} bytes of host memory{beside} cannot be had: {free} are free"
            )

    def _free_host_bytes(self) -> int:
        """What this executor may take of the host's memory."""
        return available_bytes()

    def _bytes_of(self, blocks: tuple[int, ...], block_size: int) -> int:
        """Of so many blocks of each KV group."""
        return sum(n * size for n, size in zip(blocks, self.kv_block_bytes(block_size), strict=True))

    def _capture(self) -> Capture | None:
        """How decoding steps become graphs, if they do."""
        if self._context.device != "cuda" or not self._config.cuda_graphs:
            return None
        obstacle = self._model.uncapturable
        if not self._context.attention.capturable:
            obstacle = f"{type(self._context.attention).__name__} prepares each step anew"
        if obstacle is not None:
            _log.warning("executor.cuda_graphs: decoding steps are launched one by one: %s", obstacle)
            return None
        from quire.runtime.cuda_graph import CudaCapture

        return CudaCapture()

    def submit(self, plan: StepPlan) -> None:
        assert self._runner is not None, "start comes before submit"
        compute = self._runner.launch if self._defers else self._runner.run
        self._steps.append(self._thread.submit(compute, plan))

    def collect(self) -> StepResult:
        # Waits; an interrupt meanwhile leaves the step to be collected again.
        step = self._steps[0]
        if step.exception() is None and self._defers:
            if self._finishing is None:
                self._finishing = self._thread.submit(step.result().result)
            step = self._finishing
            step.exception()
        self._steps.popleft()
        self._finishing = None
        return step.result()

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._steps.clear()
        self._drop_runner()

    def _drop_runner(self) -> None:
        if self._runner is not None:
            self._runner.close()
            self._runner = None


def _runner_thread(device: str) -> ThreadPoolExecutor:
    """One thread; its GPU is the one that is the current one here."""
    if device == "cpu":
        return ThreadPoolExecutor(max_workers=1, thread_name_prefix="quire-runner")
    import torch

    return ThreadPoolExecutor(
        max_workers=1,
        thread_name_prefix="quire-runner",
        initializer=torch.cuda.set_device,
        initargs=(torch.cuda.current_device(),),
    )
