"""Replay of a recorded trace: its arrivals and lengths, with tokens made up."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from quire.config.checks import check_above_zero
from quire.engine.request import Request, SamplingParams
from quire.errors import UserError
from quire.interfaces.workload import Workload, WorkloadContext
from quire_plugins.workloads.draws import stream, token_ids
from quire_plugins.workloads.limits import Limits, TooLong
from quire_plugins.workloads.trace_file import TraceRow


@dataclass
class ReplayConfig:
    """Options of every replayed trace."""

    path: str | None = None
    """The trace's file."""
    rate: float | None = None
    """Requests a second on average: times are stretched to it; null: as recorded."""
    time_scale: float = 1.0
    """Factor on all times: 0.5 replays twice as fast; with rate null only."""
    skip: int = 0
    """Lines passed over at the start of the file."""
    limit: int | None = None
    """Requests read at most; null: all."""
    output_cap: int | None = None
    """Output tokens that requests declare as their most, to which longer ones are cut; null: all that fit."""
    too_long: TooLong = TooLong.drop
    """What becomes of requests longer than the engine admits."""

    def __post_init__(self) -> None:
        check_above_zero("workload", self, "rate", what="number a second", null=True)
        check_above_zero("workload", self, "time_scale")
        if self.rate is not None and self.time_scale != 1.0:
            raise UserError(
                f"workload.time_scale={self.time_scale}: must be 1 where workload.rate={self.rate} is given"
            )
        if self.skip < 0:
            raise UserError(f"workload.skip={self.skip}: must be at least 0")
        for name in ("limit", "output_cap"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"workload.{name}={value}: must be at least 1, or null")


class ReplayWorkload(Workload):
    """What the formats share. Outputs are forced to the recorded length, which no policy sees; prompts are
    random tokens, but equal where the trace says that they are, so that a prefix cache hits as it would have.
    """

    name: str
    """The plugin's, with which its requests' ids begin."""
    block_tokens: int = 0
    """Tokens that each of a row's `blocks` stands for."""

    def __init__(self, *, config: ReplayConfig) -> None:
        self._config = config
        self._capped = 0
        self._limits: Limits | None = None

    @abstractmethod
    def read(self, path: Path) -> list[TraceRow]:
        """The rows of the file, as the config says. Raises UserError, naming file, line and column."""

    @cached_property
    def rows(self) -> list[TraceRow]:
        """The whole trace."""
        if self._config.path is None:
            raise UserError(f"workload.path=null: must be the trace's file where workload={self.name}")
        rows = self.read(Path(self._config.path).expanduser())
        if not rows:
            raise UserError(f"workload.path={self._config.path!r}: has no requests")
        return rows

    def __len__(self) -> int:
        return len(self.rows)

    def requests(self, context: WorkloadContext) -> Iterator[Request]:
        factor = self._time_factor()
        self._limits = Limits(rule=self._config.too_long, longest=context.max_model_tokens)
        if self._config.too_long is TooLong.refuse:
            for row in self.rows:
                self._limits.fit(row.prompt, self._cap(row), name=f"line {row.line}")
        return self._replay(context, self._limits, factor)

    def notes(self) -> Mapping[str, Any]:
        capped = {"outputs_cut_to_the_cap": self._capped} if self._capped else {}
        return {**capped, **(self._limits.notes() if self._limits is not None else {})}

    def _replay(self, context: WorkloadContext, limits: Limits, factor: float) -> Iterator[Request]:
        start = self.rows[0].arrival
        for row in self.rows:
            output = self._cap(row)
            self._capped += output < row.output
            fitting = limits.fit(row.prompt, output, name=f"line {row.line}")
            if fitting is None:
                continue
            prompt, output = fitting
            room = context.max_model_tokens - prompt
            declared = room if self._config.output_cap is None else min(self._config.output_cap, room)
            yield Request(
                id=f"{self.name}-{row.line}",
                prompt_token_ids=self._tokens(row, prompt, context),
                sampling=SamplingParams(temperature=0.0, max_tokens=declared, ignore_eos=True),
                arrival_time=round((row.arrival - start) * factor, 6),
                session=row.session,
                forced_output_tokens=output,
            )

    def _cap(self, row: TraceRow) -> int:
        return row.output if self._config.output_cap is None else min(row.output, self._config.output_cap)

    def _time_factor(self) -> float:
        config, rows = self._config, self.rows
        if config.rate is None:
            return config.time_scale
        span = rows[-1].arrival - rows[0].arrival
        if span <= 0:
            raise UserError(
                f"workload.rate={config.rate}: all requests of the trace arrive at once; must be null"
            )
        return (len(rows) - 1) / (config.rate * span)

    def _tokens(self, row: TraceRow, count: int, context: WorkloadContext) -> tuple[int, ...]:
        """The row's first `count` tokens: those of its blocks, or its own."""
        if not row.blocks:
            rng = stream(context.seed, f"{self.name} line {row.line}")
            return token_ids(rng, count, context.vocab_size)
        tokens: list[int] = []
        for block in row.blocks[: -(-count // self.block_tokens)]:
            rng = stream(context.seed, f"{self.name} block {block}")
            tokens += token_ids(rng, self.block_tokens, context.vocab_size)
        return tuple(tokens[:count])
