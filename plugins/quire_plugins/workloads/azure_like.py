"""Azure's traces where their file is given; else requests drawn from the distributions measured in them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from quire.engine.request import Request
from quire.interfaces.workload import WorkloadContext
from quire_plugins.workloads.azure import Azure
from quire_plugins.workloads.replay import ReplayConfig
from quire_plugins.workloads.synthetic import SyntheticWorkload
from quire_plugins.workloads.synthetic_config import SyntheticConfig

DRAWN_REQUESTS = 1000
"""How many are drawn where `limit` says nothing."""


class AzureLike(Azure):
    """Replays `workload.path`; without one it draws requests, and says so in the summary."""

    def __init__(self, *, config: ReplayConfig) -> None:
        super().__init__(config=config)
        self._drawn = None if config.path is not None else SyntheticWorkload(config=self.drawn(config))

    @staticmethod
    @abstractmethod
    def drawn(config: ReplayConfig) -> SyntheticConfig:
        """What to draw."""

    def __len__(self) -> int:
        return super().__len__() if self._drawn is None else len(self._drawn)

    def requests(self, context: WorkloadContext) -> Iterator[Request]:
        return super().requests(context) if self._drawn is None else self._drawn.requests(context)

    def notes(self) -> Mapping[str, Any]:
        if self._drawn is None:
            return super().notes()
        return {
            "drawn": f"from the distributions of {self.name}, as workload.path is null",
            **self._drawn.notes(),
        }
