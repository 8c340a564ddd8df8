"""Azure's chat requests of 2023-11-16: 5.53 a second, nearly Poisson."""

from __future__ import annotations

from dataclasses import dataclass

from quire_plugins.workloads.azure_like import DRAWN_REQUESTS, AzureLike
from quire_plugins.workloads.replay import ReplayConfig
from quire_plugins.workloads.synthetic_config import Arrivals, Lengths, SyntheticConfig


@dataclass
class AzureConvConfig(ReplayConfig):
    """Options of `workload=azure_conv`. Without a path requests are drawn like the trace's."""


class AzureConv(AzureLike):
    """Replays Azure's trace of chat requests, or draws requests like them."""

    Config = AzureConvConfig
    name = "azure_conv"

    @staticmethod
    def drawn(config: ReplayConfig) -> SyntheticConfig:
        return SyntheticConfig(
            requests=config.limit or DRAWN_REQUESTS,
            rate=config.rate or 5.53 / config.time_scale,
            arrivals=Arrivals.gamma,
            cv=1.09,
            lengths=Lengths.azure_conv,
            output_cap=config.output_cap,
            too_long=config.too_long,
        )
