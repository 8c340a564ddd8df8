"""Engines built from their parts, without the command line: the machine with the GPU may have no Hydra.

The policies are the defaults of the command line but for what a measurement is about.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from quire.clock import Clock, WallClock
from quire.engine.config import EngineConfig
from quire.engine.engine import Engine
from quire.engine.records import StepRecord
from quire.engine.request import Request, SamplingParams
from quire.interfaces.allocator import KVAllocator
from quire.interfaces.executor import ExecutorContext
from quire.interfaces.scheduler import Scheduler
from quire.models.checkpoint import open_checkpoint
from quire.runtime.kv_size import plan_layout
from quire_plugins.allocators.paged import PagedAllocator
from quire_plugins.attention.paged import PagedAttention
from quire_plugins.eviction.lru import Lru
from quire_plugins.executors.local import LocalExecutor
from quire_plugins.ops.native import NativeOps
from quire_plugins.quantization.none import NoQuantization
from quire_plugins.samplers.standard import StandardSampler
from quire_plugins.schedulers.fcfs import Fcfs
from quire_plugins.victims.last import Last


def architectures() -> dict[str, object]:
    """Those of the models measured here."""
    from quire_plugins.architectures.gemma import Gemma2
    from quire_plugins.architectures.llama import Llama
    from quire_plugins.architectures.mixtral import Mixtral
    from quire_plugins.architectures.qwen import Qwen3, Qwen3Moe

    return {
        "Gemma2ForCausalLM": Gemma2(),
        "LlamaForCausalLM": Llama(),
        "MixtralForCausalLM": Mixtral(),
        "Qwen3ForCausalLM": Qwen3(),
        "Qwen3MoeForCausalLM": Qwen3Moe(),
    }


class Loaded:
    """A model on a device, around which one engine after another is made."""

    def __init__(
        self,
        model: Path | str,
        *,
        device: str,
        dtype: str,
        max_tokens: int | None = None,
        cuda_graphs: bool = True,
    ) -> None:
        self._attention = PagedAttention(config=PagedAttention.Config(), device=device)
        self._clock: Clock = WallClock()
        self._executor = LocalExecutor(
            config=LocalExecutor.Config(memory_fraction=0.9, cuda_graphs=cuda_graphs),
            context=ExecutorContext(
                checkpoint=open_checkpoint(str(model)),
                device=device,
                dtype=dtype,
                max_tokens=max_tokens,
                kv_dtype="auto",
                architectures=architectures(),
                clock=self._clock,
                attention=self._attention,
                ops=NativeOps(config=NativeOps.Config(), device=device),
                quantization=NoQuantization(config=NoQuantization.Config(), device=device),
                sampler=StandardSampler(config=StandardSampler.Config()),
                processors=(),
            ),
        )
        self.vocab_size = self._executor.info.vocab_size

    @property
    def token_bytes(self) -> int:
        """KV memory of one token."""
        return sum(self._executor.kv_block_bytes(16)) // 16

    def engine(
        self,
        *,
        max_sequences: int,
        max_step_tokens: int,
        kv_bytes: int,
        scheduler: Scheduler | None = None,
        allocator: type[KVAllocator] = PagedAllocator,
        overlap: bool = True,
    ) -> Engine:
        """An engine with KV memory of its own; whatever engine came before is not to be used any more."""
        executor = self._executor
        block_size = self._attention.preferred_block_size
        layout = plan_layout(
            executor.kv_groups,
            block_size=block_size,
            block_bytes=executor.kv_block_bytes(block_size),
            kv_bytes=kv_bytes,
            max_tokens=executor.info.max_tokens,
            max_sequences=max_sequences,
            max_step_tokens=max_step_tokens,
            releases_windows=allocator.releases_windows,
        )
        executor.start(layout, max_sequences=max_sequences)
        return Engine(
            config=EngineConfig(
                max_sequences=max_sequences, max_step_tokens=max_step_tokens, overlap=overlap
            ),
            scheduler=scheduler or Fcfs(config=Fcfs.Config()),
            victims=Last(config=Last.Config()),
            allocator=allocator(config=allocator.Config(), layout=layout, eviction=Lru(config=Lru.Config())),
            layout=layout,
            executor=executor,
            clock=self._clock,
            info=executor.info,
        )

    def close(self) -> None:
        self._executor.close()


def random_prompt(rng: np.random.Generator, *, vocab: int, tokens: int) -> tuple[int, ...]:
    """Token ids that no other prompt begins with, by chance."""
    return tuple(rng.integers(0, vocab, tokens).tolist())


def request(name: str, prompt: tuple[int, ...], output: int, *, declared: int | None = None) -> Request:
    """A request whose output has exactly `output` tokens; what policies see of it is `declared`."""
    return Request(
        id=name,
        prompt_token_ids=prompt,
        sampling=SamplingParams(temperature=0.0, max_tokens=max(output, declared or 0), ignore_eos=True),
        forced_output_tokens=output,
    )


def decode_records(records: Iterable[StepRecord], sequences: int) -> list[StepRecord]:
    """Of the steps those in which so many sequences decode, and nothing else."""
    return [
        record for record in records if record.decode_sequences == sequences and not record.prefill_tokens
    ]


def clear(engine: Engine, names: Iterable[str]) -> None:
    """End all requests, and what is under way."""
    for name in names:
        engine.abort(name)
    while engine.has_work:
        engine.step()
    engine.take_records()
