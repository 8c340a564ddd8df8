"""The executor computes steps: on this machine's devices, on others', or only on paper."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quire.clock import Clock
    from quire.config.run_config import RunConfig
    from quire.engine.plan import StepPlan, StepResult
    from quire.interfaces.allocator import KVGroup, KVLayout
    from quire.interfaces.architecture import Architecture
    from quire.interfaces.attention import AttentionBackend
    from quire.interfaces.cost_model import CostModel
    from quire.interfaces.ops import Ops
    from quire.interfaces.quantization import Quantization
    from quire.interfaces.sampler import LogitsProcessor, Sampler
    from quire.models.checkpoint import Checkpoint
    from quire.models.model import ModelInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelContext:
    """What every executor is told.

    `device` is "cpu" or "cuda"; `dtype` is a torch type's name or "auto" for the checkpoint's own;
    `max_tokens` limits the length of a sequence (None: the model's own limit); `kv_dtype` is what keys and
    values are kept as, "auto" for the type of the model. `architectures` are the native ones by the name in
    config.json.
    """

    checkpoint: Checkpoint
    device: str
    dtype: str
    max_tokens: int | None
    kv_dtype: str
    architectures: Mapping[str, Architecture]
    clock: Clock


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutorContext(ModelContext):
    """What an executor may build its model from. `config` is the run's, of which another process can make the
    same parts (`Run.executor_context`); None if no run made them.
    """

    attention: AttentionBackend
    ops: Ops
    quantization: Quantization
    sampler: Sampler
    processors: tuple[LogitsProcessor, ...]
    config: RunConfig | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulationContext(ModelContext):
    """What an executor gets that computes nothing: its checkpoint may lack weights."""

    cost_model: CostModel


class OutOfDeviceMemory(RuntimeError):
    """A step needed more memory than its device had left; nothing that it computed counts."""


class ExecutorLost(RuntimeError):
    """The executor can compute nothing any more; its engine has to be made anew."""


class Executor(ABC):
    """Owns the model, the KV tensors and the persistent batch. The engine speaks to it in plans and results.

    Constructed with `config` and `context` (a SimulationContext if it is `virtual`, else an ExecutorContext);
    it then knows its model. Steps are computed in the order they
    were submitted. At most `depth` may be under way, so that the engine can schedule step n + 1 while step n
    runs.
    """

    Config: type[Any]

    virtual: bool = False
    """Whether nothing is computed, and steps take time on a virtual clock only."""
    depth: int = 2
    info: ModelInfo
    kv_groups: tuple[KVGroup, ...]
    """Layers that share block tables."""

    @abstractmethod
    def kv_block_bytes(self, block_size: int) -> tuple[int, ...]:
        """Bytes of one block of `block_size` tokens in each KV group, all its layers together."""

    @abstractmethod
    def free_bytes(self) -> int:
        """Memory that KV may take where the user names no number."""

    @abstractmethod
    def start(self, layout: KVLayout, *, max_sequences: int) -> None:
        """Allocate KV memory as `layout` says, and room for that many sequences. Called again, once all
        results are collected, it begins anew with other memory. Raises UserError if there is too little.
        """

    @abstractmethod
    def submit(self, plan: StepPlan) -> None:
        """Begin (or queue) a step. Returns without waiting for it, where the executor can."""

    @abstractmethod
    def collect(self) -> StepResult:
        """The result of the oldest step submitted and not yet collected; waits for it.

        Raises whatever broke the step; the engine then fails the sequences of that step by name. After
        OutOfDeviceMemory it has them wait instead, and takes smaller steps; ExecutorLost ends it.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back memory and threads. Idempotent."""
