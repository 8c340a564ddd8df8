"""Azure's code completion requests of 2023-11-16: 2.57 a second, in bursts with minutes between them.

No renewal process has such gaps (their coefficient of variation is 13, the longest is 217 s); periods with
and without arrivals do.
"""

from __future__ import annotations

from dataclasses import dataclass

from quire_plugins.workloads.azure_like import DRAWN_REQUESTS, AzureLike
from quire_plugins.workloads.replay import ReplayConfig
from quire_plugins.workloads.synthetic_config import Arrivals, Lengths, SyntheticConfig

_RATE, _ON, _OFF = 2.57, 1000.0, 200.0
"""Requests a second over all; mean seconds with and without arrivals, which make that variation."""


@dataclass
class AzureCodeConfig(ReplayConfig):
    """Options of `workload=azure_code`. Without a path requests are drawn like the trace's."""


class AzureCode(AzureLike):
    """Replays Azure's trace of code completion requests, or draws requests like them."""

    Config = AzureCodeConfig
    name = "azure_code"

    @staticmethod
    def drawn(config: ReplayConfig) -> SyntheticConfig:
        rate = config.rate or _RATE / config.time_scale
        return SyntheticConfig(
            requests=config.limit or DRAWN_REQUESTS,
            rate=rate,
            arrivals=Arrivals.on_off,
            on=_ON * _RATE / rate,
            off=_OFF * _RATE / rate,
            lengths=Lengths.azure_code,
            output_cap=config.output_cap,
            too_long=config.too_long,
        )
