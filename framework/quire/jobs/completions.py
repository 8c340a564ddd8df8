"""Pieces of output put together: what a request came to, once all its samples have ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from quire.engine.outputs import SequenceOutput
from quire.engine.plan import TokenLogprobs
from quire.engine.records import RequestRecord
from quire.engine.request import Request
from quire.engine.sequence import FinishReason


@dataclass(slots=True, kw_only=True)
class Sample:
    """One continuation, so far or whole. `logprobs` has an entry a token, if they were asked for."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list[int])
    logprobs: list[TokenLogprobs] = field(default_factory=list[TokenLogprobs])
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: FinishReason | None = None
    error: str | None = None
    record: RequestRecord | None = None

    def append(self, output: SequenceOutput) -> None:
        """Add the next piece."""
        self.text += output.text
        self.token_ids += output.token_ids
        self.logprobs += output.logprobs
        self.prompt_logprobs = self.prompt_logprobs or output.prompt_logprobs
        self.finish_reason = output.finish_reason
        self.error = output.error
        self.record = output.record


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A request and its samples, by index."""

    request: Request
    samples: tuple[Sample, ...]

    @property
    def error(self) -> str | None:
        """Why a sample failed, if one did."""
        return next((sample.error for sample in self.samples if sample.error is not None), None)


class Completions:
    """Holds what living requests came to so far."""

    def __init__(self) -> None:
        self._living: dict[str, Completion] = {}

    def watch(self, requests: Iterable[Request]) -> Iterator[Request]:
        """The same requests, remembered as they pass."""
        for request in requests:
            samples = tuple(Sample() for _ in range(request.sampling.n))
            self._living[request.id] = Completion(request=request, samples=samples)
            yield request

    def take(self, outputs: Iterable[SequenceOutput]) -> list[Completion]:
        """Add pieces; the requests whose last sample ended with them are handed over and forgotten."""
        whole: list[Completion] = []
        for output in outputs:
            completion = self._living[output.request_id]
            completion.samples[output.index].append(output)
            if output.finish_reason is not None and all(s.finish_reason for s in completion.samples):
                whole.append(self._living.pop(output.request_id))
        return whole
