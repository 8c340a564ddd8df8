"""Azure's LLM inference traces of 2023 and 2024 (Patel et al., Splitwise, ISCA 2024; Stojkovic et al.,
DynamoLLM, HPCA 2025): CSV with TIMESTAMP, ContextTokens and GeneratedTokens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from quire_plugins.workloads.replay import ReplayConfig, ReplayWorkload
from quire_plugins.workloads.trace_file import TraceLine, TraceRow, csv_lines, read_rows

_TIME, _PROMPT, _OUTPUT = "TIMESTAMP", "ContextTokens", "GeneratedTokens"


@dataclass
class AzureConfig(ReplayConfig):
    """Options of `workload=azure`."""


class Azure(ReplayWorkload):
    """Replays a trace of Azure's LLM service."""

    Config = AzureConfig
    name = "azure"

    def read(self, path: Path) -> list[TraceRow]:
        return read_rows(
            csv_lines(path, (_TIME, _PROMPT, _OUTPUT)),
            _row,
            time_column=_TIME,
            skip=self._config.skip,
            limit=self._config.limit,
        )


def _row(line: TraceLine) -> TraceRow:
    return TraceRow(
        line=line.number, arrival=_seconds(line), prompt=line.count(_PROMPT), output=line.count(_OUTPUT)
    )


def _seconds(line: TraceLine) -> float:
    """Since 2023, to 100 ns: "2023-11-16 18:15:46.6805900", of 2024 with an offset behind."""
    text = str(line.get(_TIME)).strip()
    whole, _, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    try:
        moment = datetime.fromisoformat(whole + rest[len(digits) :])
    except ValueError:
        raise line.wrong(_TIME, f"{text!r}: must be a time such as 2023-11-16 18:15:46.6805900") from None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    seconds = (moment - _EPOCH).total_seconds()
    return seconds + (int(digits) / 10 ** len(digits) if digits else 0.0)


_EPOCH = datetime(2023, 1, 1, tzinfo=UTC)
