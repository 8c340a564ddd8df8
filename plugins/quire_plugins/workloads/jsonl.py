"""Requests from a plain JSONL file, one object a line.

prompt           text, or a list of token ids; or else
prompt_tokens    how many random tokens
output_tokens    exactly so many are generated; without it, outputs end by themselves
arrival          seconds, not decreasing; without it, at the start
max_tokens       output tokens that the request declares as its most
tenant, session  strings;  priority  a whole number;  deadline  seconds after arrival
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.config.checks import check_above_zero
from quire.engine.request import Request, SamplingParams
from quire.errors import UserError
from quire.interfaces.workload import Workload, WorkloadContext
from quire_plugins.workloads.draws import stream, token_ids
from quire_plugins.workloads.limits import Limits, TooLong
from quire_plugins.workloads.trace_file import TraceLine, json_lines

if TYPE_CHECKING:
    from quire.text.tokenizer import Tokenizer

_KNOWN = (
    *("prompt", "prompt_tokens", "output_tokens", "arrival", "max_tokens"),
    *("tenant", "session", "priority", "deadline"),
)


@dataclass
class JsonlWorkloadConfig:
    """Options of `workload=jsonl`."""

    path: str | None = None
    """The file."""
    time_scale: float = 1.0
    """Factor on all arrivals: 0.5 is twice as fast."""
    limit: int | None = None
    """Lines read at most; null: all."""
    too_long: TooLong = TooLong.drop
    """What becomes of requests longer than the engine admits."""

    def __post_init__(self) -> None:
        check_above_zero("workload", self, "time_scale")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"workload.limit={self.limit}: must be at least 1, or null")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    """One line, checked."""

    number: int
    prompt: str | tuple[int, ...] | int
    output: int | None
    arrival: float
    max_tokens: int | None
    tenant: str
    session: str | None
    priority: int
    deadline: float | None


class JsonlWorkload(Workload):
    """Greedy requests as a file lists them."""

    Config = JsonlWorkloadConfig

    def __init__(self, *, config: JsonlWorkloadConfig) -> None:
        self._config = config
        self._limits: Limits | None = None

    @property
    def uses_text(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Only where a prompt is text."""
        return any(isinstance(line.prompt, str) for line in self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def requests(self, context: WorkloadContext) -> Iterator[Request]:
        self._limits = Limits(rule=self._config.too_long, longest=context.max_model_tokens)
        if self._config.too_long is TooLong.refuse:
            for line in self._lines:
                self._limits.fit(_length(line, context.tokenizer), _least(line), name=f"line {line.number}")
        return self._make(context, self._limits)

    def notes(self) -> Mapping[str, Any]:
        return self._limits.notes() if self._limits is not None else {}

    def _make(self, context: WorkloadContext, limits: Limits) -> Iterator[Request]:
        for line in self._lines:
            fitting = limits.fit(_length(line, context.tokenizer), _least(line), name=f"line {line.number}")
            if fitting is None:
                continue
            prompt, output = fitting
            arrival = round(line.arrival * self._config.time_scale, 6)
            room = context.max_model_tokens - prompt
            most = line.max_tokens if line.max_tokens is not None else room
            yield Request(
                id=f"line-{line.number}",
                prompt_token_ids=_prompt(line, context)[:prompt],
                sampling=SamplingParams(temperature=0.0, max_tokens=min(room, most)),
                arrival_time=arrival,
                tenant=line.tenant,
                session=line.session,
                priority=line.priority,
                deadline=None if line.deadline is None else arrival + line.deadline,
                forced_output_tokens=None if line.output is None else output,
            )

    @cached_property
    def _lines(self) -> list[_Line]:
        if self._config.path is None:
            raise UserError("workload.path=null: must be a JSONL file where workload=jsonl")
        lines: list[_Line] = []
        for line in json_lines(Path(self._config.path).expanduser()):
            if self._config.limit is not None and len(lines) >= self._config.limit:
                break
            parsed = _parse(line)
            if lines and parsed.arrival < lines[-1].arrival:
                raise line.wrong("arrival", "is earlier than in the line before; must be in time order")
            lines.append(parsed)
        if not lines:
            raise UserError(f"workload.path={self._config.path!r}: has no requests")
        return lines


def _parse(line: TraceLine) -> _Line:
    for name in line.names:
        if name not in _KNOWN:
            raise line.wrong(name, f"is unknown; known are {', '.join(_KNOWN)}")
    if line.has("prompt") == line.has("prompt_tokens"):
        raise line.wrong("prompt", "give either prompt or prompt_tokens")
    prompt: str | tuple[int, ...] | int
    if line.has("prompt_tokens"):
        prompt = line.count("prompt_tokens")
    elif isinstance(line.get("prompt"), str):
        prompt = line.get("prompt")
    else:
        prompt = line.counts("prompt")
    if prompt in ("", ()):
        raise line.wrong("prompt", "is empty; must have at least one token")
    deadline = line.seconds("deadline") if line.has("deadline") else None
    arrival = line.seconds("arrival") if line.has("arrival") else 0.0
    if arrival < 0:
        raise line.wrong("arrival", f"{arrival}: must be at least 0")
    return _Line(
        number=line.number,
        prompt=prompt,
        output=line.count("output_tokens") if line.has("output_tokens") else None,
        arrival=arrival,
        max_tokens=line.count("max_tokens") if line.has("max_tokens") else None,
        tenant=line.text("tenant") if line.has("tenant") else "default",
        session=line.text("session") if line.has("session") else None,
        priority=line.count("priority", least=-(2**31)) if line.has("priority") else 0,
        deadline=deadline,
    )


def _least(line: _Line) -> int:
    """Output tokens that there must be room for."""
    return line.output or line.max_tokens or 1


def _length(line: _Line, tokenizer: Tokenizer | None) -> int:
    if isinstance(line.prompt, int):
        return line.prompt
    if isinstance(line.prompt, tuple):
        return len(line.prompt)
    assert tokenizer is not None, "uses_text says so"
    return len(tokenizer.encode(line.prompt))


def _prompt(line: _Line, context: WorkloadContext) -> tuple[int, ...]:
    if isinstance(line.prompt, int):
        return token_ids(stream(context.seed, f"jsonl line {line.number}"), line.prompt, context.vocab_size)
    if isinstance(line.prompt, tuple):
        return line.prompt
    assert context.tokenizer is not None, "uses_text says so"
    return tuple(context.tokenizer.encode(line.prompt))
