"""Contract suites that a plugin's tests inherit, and what they are made of: quire's engine without a model.

Not imported by anything else in quire; needs pytest and hypothesis.
"""

from quire.testing.allocator_suite import AllocatorSuite
from quire.testing.arrivals import arrivals, engine_configs
from quire.testing.attention_suite import AttentionSuite
from quire.testing.cost_model_suite import CostModelSuite
from quire.testing.eviction_suite import EvictionSuite
from quire.testing.executor_suite import ExecutorSuite
from quire.testing.layouts import kv_layouts, make_layout
from quire.testing.logits_processor_suite import LogitsProcessorSuite
from quire.testing.naive_allocator import NaiveAllocator
from quire.testing.ops_suite import OpsSuite
from quire.testing.plain_ops import PlainOps
from quire.testing.predictor_suite import PredictorSuite
from quire.testing.quantization_suite import QuantizationSuite
from quire.testing.rehearsal import Arrival, Rehearsal
from quire.testing.sampler_suite import SamplerSuite
from quire.testing.sampling_rows import make_rows
from quire.testing.scheduler_suite import SchedulerSuite
from quire.testing.script import Script
from quire.testing.scripted_executor import ScriptedExecutor
from quire.testing.sequences import make_sequence
from quire.testing.tracker_suite import TrackerSuite
from quire.testing.victim_suite import VictimSuite
from quire.testing.workload_suite import WorkloadSuite

__all__ = [
    "AllocatorSuite",
    "Arrival",
    "AttentionSuite",
    "CostModelSuite",
    "EvictionSuite",
    "ExecutorSuite",
    "LogitsProcessorSuite",
    "NaiveAllocator",
    "OpsSuite",
    "PlainOps",
    "PredictorSuite",
    "QuantizationSuite",
    "Rehearsal",
    "SamplerSuite",
    "SchedulerSuite",
    "Script",
    "ScriptedExecutor",
    "TrackerSuite",
    "VictimSuite",
    "WorkloadSuite",
    "arrivals",
    "engine_configs",
    "kv_layouts",
    "make_layout",
    "make_rows",
    "make_sequence",
]
