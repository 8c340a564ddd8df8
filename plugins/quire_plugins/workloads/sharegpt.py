"""ShareGPT conversations as JSON: a list of objects with `conversations`, a list of `from` and `value`.

The first message of a human is the prompt, the answer to it gives the length of the output (as in the
benchmarks of vLLM: Kwon et al., SOSP 2023, section 6.1). There are no times in it, so arrivals are drawn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise, repeat
from pathlib import Path
from typing import Any

from quire.config.checks import check_above_zero
from quire.engine.request import Request, SamplingParams
from quire.errors import UserError
from quire.interfaces.workload import Workload, WorkloadContext
from quire_plugins.workloads.draws import poisson_arrivals, stream
from quire_plugins.workloads.limits import Limits, TooLong
from quire_plugins.workloads.trace_file import unreadable

_HUMANS, _MODELS = ("human", "user"), ("gpt", "assistant", "chatgpt", "bing", "bard")


@dataclass
class ShareGptConfig:
    """Options of `workload=sharegpt`."""

    path: str | None = None
    """The JSON file."""
    rate: float | None = None
    """Requests a second (Poisson); null: all at once."""
    limit: int | None = None
    """Conversations taken at most, after shuffling; null: all."""
    shuffle: bool = True
    """Take them in an order drawn from the run's seed; else as they stand in the file."""
    output_cap: int | None = None
    """Output tokens that requests declare as their most, to which longer ones are cut; null: all that fit."""
    too_long: TooLong = TooLong.drop
    """What becomes of requests longer than the engine admits."""

    def __post_init__(self) -> None:
        check_above_zero("workload", self, "rate", what="number a second", null=True)
        for name in ("limit", "output_cap"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"workload.{name}={value}: must be at least 1, or null")


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """What was asked first in the conversation at `index` of the file, and the answer."""

    index: int
    prompt: str
    answer: str


class ShareGpt(Workload):
    """Asks the first question of each conversation; outputs are forced to the length of the answer."""

    Config = ShareGptConfig
    uses_text = True

    def __init__(self, *, config: ShareGptConfig) -> None:
        self._config = config
        self._limits: Limits | None = None
        self._without = 0

    def __len__(self) -> int:
        return min(len(self._exchanges), self._config.limit or len(self._exchanges))

    def requests(self, context: WorkloadContext) -> Iterator[Request]:
        assert context.tokenizer is not None, "uses_text says so"
        self._limits = Limits(rule=self._config.too_long, longest=context.max_model_tokens)
        if self._config.too_long is TooLong.refuse:
            for _ in self._sized(context, self._limits):
                pass  # refuses before the first request instead of at the first that is too long
        return self._make(context, self._limits)

    def notes(self) -> Mapping[str, Any]:
        without = {"left_out_without_an_answer": self._without} if self._without else {}
        return {**without, **(self._limits.notes() if self._limits is not None else {})}

    def _make(self, context: WorkloadContext, limits: Limits) -> Iterator[Request]:
        rate = self._config.rate
        times = (
            repeat(0.0) if rate is None else poisson_arrivals(stream(context.seed, "sharegpt arrivals"), rate)
        )
        for (index, prompt, output), time in zip(self._sized(context, limits), times, strict=False):
            room = context.max_model_tokens - len(prompt)
            declared = room if self._config.output_cap is None else min(self._config.output_cap, room)
            yield Request(
                id=f"sharegpt-{index}",
                prompt_token_ids=prompt,
                sampling=SamplingParams(temperature=0.0, max_tokens=declared, ignore_eos=True),
                arrival_time=time,
                forced_output_tokens=output,
            )

    def _sized(self, context: WorkloadContext, limits: Limits) -> Iterator[tuple[int, tuple[int, ...], int]]:
        """Index, prompt and output length of those that are served."""
        assert context.tokenizer is not None
        for exchange in islice(self._ordered(context.seed), len(self)):
            prompt = tuple(context.tokenizer.encode(exchange.prompt))
            output = len(context.tokenizer.encode(exchange.answer, add_special_tokens=False))
            if not (prompt and output):
                limits.drop(1)
                continue
            output = min(output, self._config.output_cap or output)
            fitting = limits.fit(len(prompt), output, name=f"conversation {exchange.index}")
            if fitting is not None:
                yield exchange.index, prompt[: fitting[0]], fitting[1]

    def _ordered(self, seed: int) -> list[Exchange]:
        if not self._config.shuffle:
            return self._exchanges
        keys = stream(seed, "sharegpt order").random(len(self._exchanges))
        return [self._exchanges[i] for i in sorted(range(len(keys)), key=keys.__getitem__)]

    @cached_property
    def _exchanges(self) -> list[Exchange]:
        if self._config.path is None:
            raise UserError(
                "workload.path=null: must be the conversations' JSON file where workload=sharegpt"
            )
        path = Path(self._config.path).expanduser()
        try:
            conversations = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path}, line {error.lineno}, column {error.colno}: is not JSON: {error.msg}"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise unreadable(path, error) from None
        if not isinstance(conversations, list):
            raise UserError(f"{path}, line 1, column 1: must be a list of conversations")
        found = [_exchange(path, index, each) for index, each in enumerate(conversations)]
        exchanges = [exchange for exchange in found if exchange is not None]
        self._without = len(found) - len(exchanges)
        if not exchanges:
            raise UserError(f"workload.path={str(path)!r}: has no conversation of a question and an answer")
        return exchanges


def _exchange(path: Path, index: int, conversation: Any) -> Exchange | None:
    """The first question with its answer; None if there is none."""
    messages = conversation.get("conversations") if isinstance(conversation, dict) else None
    if not isinstance(messages, list):
        raise UserError(f"{path}, conversation {index}, column conversations: must be a list of messages")
    pairs: list[tuple[str, str]] = []
    for number, message in enumerate(messages):
        speaker, text = (message.get(key) if isinstance(message, dict) else None for key in ("from", "value"))
        if not isinstance(speaker, str) or not isinstance(text, str):
            raise UserError(
                f"{path}, conversation {index}, message {number}: must have the strings `from` and `value`"
            )
        pairs.append((speaker, text))
    for (asker, question), (speaker, answer) in pairwise(pairs):
        if asker in _HUMANS and speaker in _MODELS and question.strip() and answer.strip():
            return Exchange(index=index, prompt=question, answer=answer)
    return None
