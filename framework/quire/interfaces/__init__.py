"""What a plugin implements: one abstract class a kind."""

from quire.interfaces.allocator import (
    KVAllocator,
    KVCopy,
    KVGroup,
    KVLayout,
    KVStats,
    Place,
    PrefixHit,
    Tier,
)
from quire.interfaces.architecture import Architecture
from quire.interfaces.attention import AttentionBackend, AttentionLayer, HeadTransform
from quire.interfaces.cost_model import CostModel
from quire.interfaces.eviction import CachedBlock, EvictionPolicy
from quire.interfaces.executor import (
    Executor,
    ExecutorContext,
    ModelContext,
    OutOfDeviceMemory,
    SimulationContext,
)
from quire.interfaces.kv_cache import (
    KVCache,
    KVCacheSpec,
    KVGeometry,
    LatentCache,
    LatentCacheSpec,
    TensorSpec,
)
from quire.interfaces.ops import Activation, GroupedProduct, Head, Ops, SortedPairs
from quire.interfaces.predictor import LengthPredictor
from quire.interfaces.quantization import IntegerMatrix, Quantization
from quire.interfaces.sampler import LogitsProcessor, Sampler, SamplingRows
from quire.interfaces.scheduler import Scheduler
from quire.interfaces.task import Task
from quire.interfaces.tracker import Tracker
from quire.interfaces.victim import VictimPolicy
from quire.interfaces.workload import Workload, WorkloadContext

__all__ = [
    "Activation",
    "Architecture",
    "AttentionBackend",
    "AttentionLayer",
    "CachedBlock",
    "CostModel",
    "EvictionPolicy",
    "Executor",
    "ExecutorContext",
    "GroupedProduct",
    "Head",
    "HeadTransform",
    "IntegerMatrix",
    "KVAllocator",
    "KVCache",
    "KVCacheSpec",
    "KVCopy",
    "KVGeometry",
    "KVGroup",
    "KVLayout",
    "KVStats",
    "LatentCache",
    "LatentCacheSpec",
    "LengthPredictor",
    "LogitsProcessor",
    "ModelContext",
    "Ops",
    "OutOfDeviceMemory",
    "Place",
    "PrefixHit",
    "Quantization",
    "Sampler",
    "SamplingRows",
    "Scheduler",
    "SimulationContext",
    "SortedPairs",
    "Task",
    "TensorSpec",
    "Tier",
    "Tracker",
    "VictimPolicy",
    "Workload",
    "WorkloadContext",
]
