"""A run: a resolved configuration, and the parts built from it.

config -> attention, ops, sampler, processors -> executor (loads the model)
       -> KV layout -> eviction, allocator -> executor.start -> engine
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from quire.clock import Clock, WallClock
from quire.engine.config import parse_bytes
from quire.errors import MissingCapability, UserError
from quire.interfaces.executor import Executor, ExecutorContext
from quire.registry import Registry

if TYPE_CHECKING:
    from rich.console import Console

    from quire.config.run_config import RunConfig
    from quire.engine.engine import Engine
    from quire.interfaces.allocator import KVLayout
    from quire.interfaces.attention import AttentionBackend
    from quire.interfaces.sampler import LogitsProcessor
    from quire.interfaces.tracker import Tracker
    from quire.interfaces.workload import Workload
    from quire.models.checkpoint import Checkpoint
    from quire.text.tokenizer import Tokenizer


class Run:
    """Builds what a task asks for, from the configuration. Results belong in `directory`."""

    def __init__(self, *, config: RunConfig, registry: Registry, directory: Path) -> None:
        self.config = config
        self.registry = registry
        self.directory = directory

    @cached_property
    def console(self) -> Console:
        """Where a person reads what the run has to say."""
        from rich.console import Console

        return Console(highlight=False)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The model's directory; fetched from the hub if `model` is a hub id."""
        from quire.models.checkpoint import open_checkpoint

        return open_checkpoint(self.config.model)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer. Raises UserError if its directory has none."""
        from quire.text.tokenizer import Tokenizer

        return Tokenizer.load(self.checkpoint.path)

    @cached_property
    def device(self) -> str:
        """ "cpu" or "cuda". Raises MissingCapability if the device asked for is not there."""
        import torch

        wanted = self.config.device.value
        has_cuda = torch.cuda.is_available()
        if wanted == "cuda" and not has_cuda:
            raise MissingCapability("device=cuda: this machine shows no CUDA device; device=cpu runs here")
        if wanted != "auto":
            return wanted
        return "cuda" if has_cuda else "cpu"

    def workload(self) -> Workload:
        """The requests to come."""
        return self.registry.create("workload", self.config.workload)

    def tracker(self) -> Tracker:
        """Where the run is recorded."""
        return self.registry.create("tracker", self.config.tracker)

    def engine(self, *, clock: Clock | None = None, with_text: bool = True) -> Engine:
        """Load the model and make an engine around it. The caller closes it.

        `with_text=False` leaves the tokenizer out: outputs are token ids, stop strings are refused.
        """
        from quire.engine.engine import Engine

        config = self.config
        clock = WallClock() if clock is None else clock
        tokenizer = self.tokenizer if with_text else None
        executor, attention = self._executor(clock)
        layout = self._layout(executor, attention)
        allocator = self.registry.create(
            "allocator",
            config.allocator,
            layout=layout,
            eviction=self.registry.create("eviction", config.eviction),
        )
        executor.start(layout, max_sequences=config.engine.max_sequences)
        return Engine(
            config=config.engine,
            scheduler=self.registry.create("scheduler", config.scheduler),
            allocator=allocator,
            num_groups=len(layout.groups),
            executor=executor,
            clock=clock,
            info=executor.info,
            tokenizer=tokenizer,
            processors=self._processors,
            seed=config.seed,
        )

    @cached_property
    def _processors(self) -> tuple[LogitsProcessor, ...]:
        classes = self.registry.available("logits_processor").values()
        return tuple(processor(config=processor.Config()) for processor in classes)

    def _executor(self, clock: Clock) -> tuple[Executor, AttentionBackend]:
        import torch

        from quire.runtime.machine import cpu_threads

        config, registry = self.config, self.registry
        torch.set_num_threads(config.engine.threads or cpu_threads())
        attention = registry.create("attention", config.attention, device=self.device)
        context = ExecutorContext(
            checkpoint=self.checkpoint,
            device=self.device,
            dtype=config.dtype.value,
            max_tokens=config.engine.max_model_tokens,
            attention=attention,
            ops=registry.create("ops", config.ops, device=self.device),
            sampler=registry.create("sampler", config.sampler),
            processors=self._processors,
            architectures={
                name: architecture() for name, architecture in registry.available("architecture").items()
            },
            clock=clock,
        )
        return registry.create("executor", config.executor, context=context), attention

    def _layout(self, executor: Executor, attention: AttentionBackend) -> KVLayout:
        from quire.runtime.kv_size import plan_layout

        engine, registry = self.config.engine, self.registry
        allocator_type = registry.get("allocator", registry.name_of("allocator", self.config.allocator))
        block_size = engine.block_size or attention.preferred_block_size
        if block_size not in attention.block_sizes:
            raise UserError(
                f"engine.block_size={block_size}: {type(attention).__name__} reads blocks of "
                f"{', '.join(map(str, attention.block_sizes))} tokens"
            )
        kv_bytes = (
            executor.free_bytes()
            if engine.kv_bytes == "auto"
            else parse_bytes(engine.kv_bytes, field="engine.kv_bytes")
        )
        return plan_layout(
            executor.kv_groups,
            block_size=block_size,
            block_bytes=executor.kv_block_bytes(block_size),
            kv_bytes=kv_bytes,
            max_tokens=executor.info.max_tokens,
            max_sequences=engine.max_sequences,
            max_step_tokens=engine.max_step_tokens,
            releases_windows=allocator_type.releases_windows,
        )
