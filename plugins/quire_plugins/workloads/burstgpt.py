"""BurstGPT (Wang et al., "BurstGPT: A Real-World Workload Dataset to Optimize LLM Serving Systems", KDD
2025): CSV with Timestamp in seconds, Model, Request tokens, Response tokens, Total tokens and Log Type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quire_plugins.workloads.replay import ReplayConfig, ReplayWorkload
from quire_plugins.workloads.trace_file import TraceLine, TraceRow, csv_lines, read_rows

_TIME, _PROMPT, _OUTPUT = "Timestamp", "Request tokens", "Response tokens"


@dataclass
class BurstGptConfig(ReplayConfig):
    """Options of `workload=burstgpt`."""

    model: str | None = None
    """Only requests to this model ("ChatGPT", "GPT-4"); null: all."""
    log_type: str | None = None
    """Only those of this type ("Conversation log", "API log"); null: all."""


class BurstGpt(ReplayWorkload):
    """Replays a BurstGPT trace. Requests that failed there, with no response token, are left out."""

    Config = BurstGptConfig
    name = "burstgpt"

    def __init__(self, *, config: BurstGptConfig) -> None:
        super().__init__(config=config)
        self._wanted = {
            column: value
            for column, value in (("Model", config.model), ("Log Type", config.log_type))
            if value is not None
        }
        self._failed = 0

    def read(self, path: Path) -> list[TraceRow]:
        return read_rows(
            csv_lines(path, (_TIME, _PROMPT, _OUTPUT, *self._wanted)),
            self._row,
            time_column=_TIME,
            skip=self._config.skip,
            limit=self._config.limit,
        )

    def notes(self) -> Mapping[str, Any]:
        failed = {"left_out_as_failed_in_the_trace": self._failed} if self._failed else {}
        return {**failed, **super().notes()}

    def _row(self, line: TraceLine) -> TraceRow | None:
        if any(line.get(column) != value for column, value in self._wanted.items()):
            return None
        arrival, prompt = line.seconds(_TIME), line.count(_PROMPT, least=0)
        output = line.count(_OUTPUT, least=0)
        if not (prompt and output):
            self._failed += 1
            return None
        return TraceRow(line=line.number, arrival=arrival, prompt=prompt, output=output)
