"""JSONL traces whose prompts are told by the names of their blocks: timestamp, input_length, output_length,
hash_ids."""

from __future__ import annotations

from pathlib import Path

from quire_plugins.workloads.replay import ReplayWorkload
from quire_plugins.workloads.trace_file import TraceLine, TraceRow, json_lines, read_rows

_TIME, _PROMPT, _OUTPUT, _BLOCKS = "timestamp", "input_length", "output_length", "hash_ids"


class BlockTrace(ReplayWorkload):
    """Two prompts whose names of blocks begin alike begin with the same tokens."""

    time_unit: float
    """Seconds of one unit of `timestamp`."""

    def read(self, path: Path) -> list[TraceRow]:
        return read_rows(
            json_lines(path),
            self._row,
            time_column=_TIME,
            skip=self._config.skip,
            limit=self._config.limit,
        )

    def session(self, line: TraceLine) -> str | None:
        """The conversation that the request belongs to, where the trace tells."""
        del line
        return None

    def _row(self, line: TraceLine) -> TraceRow:
        prompt, blocks = line.count(_PROMPT), line.counts(_BLOCKS)
        needed = -(-prompt // self.block_tokens)
        if len(blocks) != needed:
            raise line.wrong(
                _BLOCKS,
                f"{len(blocks)} blocks of {self.block_tokens} tokens; must be {needed} for {prompt} tokens",
            )
        return TraceRow(
            line=line.number,
            arrival=line.seconds(_TIME) * self.time_unit,
            prompt=prompt,
            output=line.count(_OUTPUT),
            blocks=blocks,
            session=self.session(line),
        )
