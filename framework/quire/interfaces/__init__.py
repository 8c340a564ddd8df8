"""What a plugin implements: one abstract class a kind."""

from quire.interfaces.allocator import KVAllocator, KVGroup, KVLayout, KVStats, PrefixHit
from quire.interfaces.architecture import Architecture
from quire.interfaces.attention import AttentionBackend, AttentionLayer, KVCache
from quire.interfaces.eviction import CachedBlock, EvictionPolicy
from quire.interfaces.executor import Executor, ExecutorContext
from quire.interfaces.ops import Activation, Ops
from quire.interfaces.sampler import LogitsProcessor, Sampler, SamplingRows
from quire.interfaces.scheduler import Scheduler
from quire.interfaces.task import Task
from quire.interfaces.tracker import Tracker
from quire.interfaces.workload import Workload, WorkloadContext

__all__ = [
    "Activation",
    "Architecture",
    "AttentionBackend",
    "AttentionLayer",
    "CachedBlock",
    "EvictionPolicy",
    "Executor",
    "ExecutorContext",
    "KVAllocator",
    "KVCache",
    "KVGroup",
    "KVLayout",
    "KVStats",
    "LogitsProcessor",
    "Ops",
    "PrefixHit",
    "Sampler",
    "SamplingRows",
    "Scheduler",
    "Task",
    "Tracker",
    "Workload",
    "WorkloadContext",
]
