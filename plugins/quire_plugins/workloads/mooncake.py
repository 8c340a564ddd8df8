"""Mooncake's traces (Qin et al., "Mooncake: Trading More Storage for Less Computation", FAST 2025): times in
milliseconds, blocks of 512 tokens."""

from __future__ import annotations

from dataclasses import dataclass

from quire_plugins.workloads.block_trace import BlockTrace
from quire_plugins.workloads.replay import ReplayConfig


@dataclass
class MooncakeConfig(ReplayConfig):
    """Options of `workload=mooncake`."""


class Mooncake(BlockTrace):
    """Replays a trace of Mooncake's, with the prefixes that its requests share."""

    Config = MooncakeConfig
    name = "mooncake"
    block_tokens = 512
    time_unit = 1e-3
