"""Contract suites that a plugin's tests inherit, and what they are made of: quire's engine without a model.

Not imported by anything else in quire; needs pytest and hypothesis.
"""

from quire.testing.allocator_suite import AllocatorSuite
from quire.testing.arrivals import arrivals, engine_configs
from quire.testing.attention_suite import AttentionSuite
from quire.testing.eviction_suite import EvictionSuite
from quire.testing.layouts import kv_layouts, make_layout
from quire.testing.logits_processor_suite import LogitsProcessorSuite
from quire.testing.naive_allocator import NaiveAllocator
from quire.testing.rehearsal import Arrival, Rehearsal
from quire.testing.sampler_suite import SamplerSuite
from quire.testing.sampling_rows import make_rows
from quire.testing.scheduler_suite import SchedulerSuite
from quire.testing.script import Script
from quire.testing.scripted_executor import ScriptedExecutor
from quire.testing.sequences import make_sequence

__all__ = [
    "AllocatorSuite",
    "Arrival",
    "AttentionSuite",
    "EvictionSuite",
    "LogitsProcessorSuite",
    "NaiveAllocator",
    "Rehearsal",
    "SamplerSuite",
    "SchedulerSuite",
    "Script",
    "ScriptedExecutor",
    "arrivals",
    "engine_configs",
    "kv_layouts",
    "make_layout",
    "make_rows",
    "make_sequence",
]
