"""A run: a resolved configuration, and the parts built from it.

config -> attention, ops, sampler, processors -> executor (loads the model)
          or, in virtual time, cost model     -> executor (reads the model's shape)
       -> KV layout -> executor.start -> eviction, allocator -> engine
"""

from __future__ import annotations

import functools
import sys
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.clock import Clock, VirtualClock, WallClock
from quire.errors import MissingCapability
from quire.interfaces.executor import Executor, ExecutorContext, SimulationContext
from quire.jobs.launch import Launch
from quire.kv_memory import check_kv_dtype, kv_layout
from quire.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from quire.config.run_config import RunConfig
    from quire.embedding.embedder import Embedder
    from quire.embedding.recipe import Recipe
    from quire.embedding.texts import EmbeddingTexts
    from quire.engine.engine import Engine
    from quire.engine.request import Request
    from quire.interfaces.architecture import Architecture
    from quire.interfaces.attention import AttentionBackend
    from quire.interfaces.predictor import LengthPredictor
    from quire.interfaces.sampler import LogitsProcessor
    from quire.interfaces.scheduler import Scheduler
    from quire.interfaces.tracker import Tracker
    from quire.interfaces.victim import VictimPolicy
    from quire.interfaces.workload import Workload
    from quire.models.checkpoint import Checkpoint
    from quire.text.tokenizer import Tokenizer


class Run:
    """Builds what a task asks for, from the configuration. Results belong in `directory`."""

    def __init__(
        self, *, config: RunConfig, registry: Registry, directory: Path, launch: Launch | None = None
    ) -> None:
        """`launch` is None where no command line started the run."""
        self.config = config
        self.registry = registry
        self.directory = directory
        self.launch = launch or Launch(command=tuple(sys.argv))

    @cached_property
    def description(self) -> dict[str, Any]:
        """Everything to know the run by, as plain data (`quire.jobs.provenance`)."""
        from quire.jobs.provenance import describe_run

        return describe_run(self.config, self.registry, launch=self.launch)

    @cached_property
    def console(self) -> Console:
        """Where a person reads what the run has to say."""
        from rich.console import Console

        return Console(highlight=False)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The model's directory; fetched from the hub if `model` is a hub id."""
        from quire.models.checkpoint import open_checkpoint

        return open_checkpoint(self.config.model, with_weights=not self.is_virtual)

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

    @property
    def is_virtual(self) -> bool:
        """Whether the run computes nothing and takes place on a virtual clock."""
        name = self.registry.name_of("executor", self.config.executor)
        return self.registry.get("executor", name).virtual

    def workload(self) -> Workload:
        """The requests to come."""
        return self.registry.create("workload", self.config.workload)

    def requests(self, workload: Workload, engine: Engine) -> Iterator[Request]:
        """Those of the workload, as it makes them for that engine's model and the run's seed."""
        from quire.interfaces.workload import WorkloadContext

        return workload.requests(
            WorkloadContext(
                seed=self.config.seed,
                vocab_size=engine.info.vocab_size,
                max_model_tokens=engine.max_model_tokens,
                tokenizer=self.tokenizer if workload.uses_text else None,
            )
        )

    def tracker(self) -> Tracker:
        """Where the run is recorded."""
        return self.registry.create("tracker", self.config.tracker)

    def engine(self, *, clock: Clock | None = None, with_text: bool = True) -> Engine:
        """Load the model and make an engine around it. The caller closes it.

        `with_text=False` leaves the tokenizer out: outputs are token ids, stop strings are refused.
        """
        from quire.engine.engine import Engine
        from quire.engine.profile import Profile

        config = self.config
        if clock is None:
            clock = VirtualClock() if self.is_virtual else WallClock()
        tokenizer = self.tokenizer if with_text else None
        scheduler, victims = self.policies()
        if self.is_virtual:
            executor, attention, block_size = self._simulation(clock)
        else:
            context = self.executor_context(clock)
            executor = self.registry.create("executor", config.executor, context=context)
            attention = context.attention
            block_size = attention.preferred_block_size
        with ExitStack() as undo:
            undo.callback(executor.close)
            layout = kv_layout(
                config, self.registry, executor=executor, attention=attention, block_size=block_size
            )
            executor.start(layout, max_sequences=config.engine.max_sequences)
            allocator = self.registry.create(
                "allocator",
                config.allocator,
                layout=layout,
                eviction=self.registry.create("eviction", config.eviction),
            )
            self.bind_processors(executor, tokenizer)
            engine = Engine(
                config=config.engine,
                scheduler=scheduler,
                victims=victims,
                allocator=allocator,
                layout=layout,
                executor=executor,
                clock=clock,
                info=executor.info,
                tokenizer=tokenizer,
                processors=self._processors,
                seed=config.seed,
                profile=Profile() if config.engine.profile else None,
            )
            undo.pop_all()  # it is the engine's to close now
        return engine

    def embedder(self) -> Embedder:
        """Load the model for embeddings, or for scores if it is a cross-encoder. Raises UserError for a model
        that generates text.
        """
        import torch

        from quire.embedding.build import make_embedder
        from quire.models.text_build import load_text_model
        from quire.runtime.machine import cpu_threads, keep_freed_memory

        config = self.config
        quantization = self.registry.create("quantization", config.quantization, device=self.device)
        if not quantization.keeps_checkpoint:
            raise MissingCapability(
                f"quantization: {type(quantization).__name__} makes no embeddings or scores: must be none"
            )
        torch.set_num_threads(config.engine.threads or cpu_threads())
        if self.device == "cpu":
            keep_freed_memory()
        model = load_text_model(
            self.checkpoint,
            architectures=self._architectures,
            ops=self.registry.create("ops", config.ops, device=self.device),
            device=self.device,
            dtype=config.dtype.value,
        )
        return make_embedder(model, checkpoint=self.checkpoint, recipe=self.recipe, config=config.embedding)

    @cached_property
    def recipe(self) -> Recipe:
        """What the model's files say of its embeddings."""
        from quire.embedding.recipe import read_recipe

        return read_recipe(self.checkpoint.path)

    def embedding_texts(self, max_tokens: int) -> EmbeddingTexts:
        """What makes token ids for `Embedder.embed` and `Embedder.score`, whose `max_tokens` it is told."""
        from quire.embedding.texts import EmbeddingTexts

        return EmbeddingTexts(tokenizer=self.tokenizer, recipe=self.recipe, max_tokens=max_tokens)

    def policies(self) -> tuple[Scheduler, VictimPolicy]:
        """A scheduler and a victim policy of their own. The predictor is made if one of them uses it, and
        then they share it.
        """
        config, registry = self.config, self.registry

        @functools.cache
        def predictor() -> LengthPredictor:
            return registry.create("predictor", config.predictor, seed=config.seed)

        def policy(kind: str, options: Any) -> Any:
            plugin = registry.get(kind, registry.name_of(kind, options))
            parts = {"predictor": predictor()} if plugin.uses_predictor else {}
            return plugin(config=options, **parts)

        return policy("scheduler", config.scheduler), policy("victim", config.victim)

    @cached_property
    def _processors(self) -> tuple[LogitsProcessor, ...]:
        classes = self.registry.available("logits_processor").values()
        return tuple(processor(config=processor.Config()) for processor in classes)

    @cached_property
    def _architectures(self) -> dict[str, Architecture]:
        classes = self.registry.available("architecture")
        return {name: architecture() for name, architecture in classes.items()}

    def bind_processors(self, executor: Executor, tokenizer: Tokenizer | None) -> None:
        """Tell the logits processors about the model that the executor has loaded."""
        for processor in self._processors:
            processor.bind(
                tokenizer=tokenizer,
                vocab_size=executor.info.vocab_size,
                eos_token_ids=executor.info.eos_token_ids,
            )

    def executor_context(self, clock: Clock) -> ExecutorContext:
        """The parts that an executor computes with, made for this process."""
        import torch

        from quire.runtime.machine import cpu_threads

        config, registry = self.config, self.registry
        torch.set_num_threads(config.engine.threads or cpu_threads())
        attention = registry.create("attention", config.attention, device=self.device)
        check_kv_dtype(config, registry, attention)
        return ExecutorContext(
            config=config,
            checkpoint=self.checkpoint,
            device=self.device,
            dtype=config.dtype.value,
            max_tokens=config.engine.max_model_tokens,
            kv_dtype=config.engine.kv_dtype.value,
            architectures=self._architectures,
            clock=clock,
            attention=attention,
            ops=registry.create("ops", config.ops, device=self.device),
            quantization=registry.create("quantization", config.quantization, device=self.device),
            sampler=registry.create("sampler", config.sampler),
            processors=self._processors,
        )

    def _simulation(self, clock: Clock) -> tuple[Executor, type[AttentionBackend], int]:
        """A virtual executor, for a device that need not be here; the backend that would run there, and the
        block size that it would take.
        """
        config, registry = self.config, self.registry
        device = self.device if config.device.value == "auto" else config.device.value
        attention = registry.get("attention", registry.name_of("attention", config.attention))
        check_kv_dtype(config, registry, attention)
        context = SimulationContext(
            checkpoint=self.checkpoint,
            device=device,
            dtype=config.dtype.value,
            max_tokens=config.engine.max_model_tokens,
            kv_dtype=config.engine.kv_dtype.value,
            architectures=self._architectures,
            clock=clock,
            cost_model=registry.create("cost_model", config.cost_model),
        )
        executor = registry.create("executor", config.executor, context=context)
        return executor, attention, attention.block_size_on(device)
