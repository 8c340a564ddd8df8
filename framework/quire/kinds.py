"""The kinds of plugins: each an interface, an entry-point group and, where one is chosen, a Hydra group."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import Any

ENTRY_POINT_PREFIX = "quire."
KIND_GROUP = "quire.kind"
"""Entry-point group in which a distribution brings a kind of its own: each entry names a `Kind`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """One kind of plugin, registered by the entry-point group `quire.<name>`."""

    name: str
    interface: str
    """Where its abstract class is: 'module:Class'."""
    summary: str
    """What a plugin of this kind decides, in a few words."""
    default: str | None = None
    """The plugin of a run that names none; None if none is chosen on the command line."""
    configured: bool = True
    """Whether its plugins have options: a dataclass `Config`."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z]+(_[a-z]+)*", self.name):
            raise ValueError(f"kind {self.name!r}: a name is words of a-z joined by single underscores")

    @property
    def entry_point_group(self) -> str:
        return ENTRY_POINT_PREFIX + self.name

    def load_interface(self) -> type[Any]:
        """Import the abstract class."""
        module, _, attribute = self.interface.partition(":")
        return getattr(importlib.import_module(module), attribute)


KINDS = (
    Kind(
        name="task",
        interface="quire.interfaces.task:Task",
        summary="what the run does",
        default="bench",
    ),
    Kind(
        name="scheduler",
        interface="quire.interfaces.scheduler:Scheduler",
        summary="which sequences compute how many tokens in a step",
        default="fcfs",
    ),
    Kind(
        name="victim",
        interface="quire.interfaces.victim:VictimPolicy",
        summary="who gives way where memory lacks",
        default="last",
    ),
    Kind(
        name="predictor",
        interface="quire.interfaces.predictor:LengthPredictor",
        summary="how long an output will be, for policies that ask",
        default="history",
    ),
    Kind(
        name="allocator",
        interface="quire.interfaces.allocator:KVAllocator",
        summary="which KV blocks hold a sequence's tokens",
        default="paged",
    ),
    Kind(
        name="eviction",
        interface="quire.interfaces.eviction:EvictionPolicy",
        summary="which cached block is given up first",
        default="lru",
    ),
    Kind(
        name="attention",
        interface="quire.interfaces.attention:AttentionBackend",
        summary="how keys and values are stored and attended to",
        default="paged",
    ),
    Kind(
        name="ops",
        interface="quire.interfaces.ops:Ops",
        summary="norms, rotary embedding, gates, matrix products",
        default="native",
    ),
    Kind(
        name="quantization",
        interface="quire.interfaces.quantization:Quantization",
        summary="how a weight matrix is held and multiplied",
        default="none",
    ),
    Kind(
        name="sampler",
        interface="quire.interfaces.sampler:Sampler",
        summary="how logits become a token",
        default="standard",
    ),
    Kind(
        name="logits_processor",
        interface="quire.interfaces.sampler:LogitsProcessor",
        summary="what changes logits before sampling",
    ),
    Kind(
        name="executor",
        interface="quire.interfaces.executor:Executor",
        summary="where steps are computed",
        default="local",
    ),
    Kind(
        name="cost_model",
        interface="quire.interfaces.cost_model:CostModel",
        summary="how long a simulated step takes",
        default="linear",
    ),
    Kind(
        name="workload",
        interface="quire.interfaces.workload:Workload",
        summary="which requests arrive, and when",
        default="demo",
    ),
    Kind(
        name="tracker",
        interface="quire.interfaces.tracker:Tracker",
        summary="where a run is recorded",
        default="jsonl",
    ),
    Kind(
        name="architecture",
        interface="quire.interfaces.architecture:Architecture",
        summary="how a checkpoint is read",
        configured=False,
    ),
)
