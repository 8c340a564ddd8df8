"""Real text for the demo model: tasks with a known answer, and stories to be told to their end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from quire.config.checks import check_above_zero
from quire.engine.request import Request, SamplingParams
from quire.errors import UserError
from quire.interfaces.workload import Workload, WorkloadContext
from quire.rng import derive_seed
from quire_plugins.workloads.draws import poisson_arrivals, stream
from quire_plugins.workloads.limits import Limits, TooLong

if TYPE_CHECKING:
    from quire.text.known_answers import Task

STORY_EVERY = 4
"""Of so many requests the first begins a story; the others are tasks."""


@dataclass
class DemoConfig:
    """Options of `workload=demo`."""

    requests: int = 64
    """How many requests."""
    rate: float = 8.0
    """Requests a second (Poisson)."""
    max_tokens: int = 128
    """Output tokens at most, or as many as there is room for; most outputs end by themselves before."""

    def __post_init__(self) -> None:
        for name in ("requests", "max_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"workload.{name}={getattr(self, name)}: must be at least 1")
        check_above_zero("workload", self, "rate", what="number a second")


class DemoWorkload(Workload):
    """Known-answer tasks, half of which begin with examples that others share, and story beginnings."""

    Config = DemoConfig
    uses_text = True

    def __init__(self, *, config: DemoConfig) -> None:
        self._config = config
        self._tasks: dict[str, Task] = {}
        self._limits: Limits | None = None

    def __len__(self) -> int:
        return self._config.requests

    def requests(self, context: WorkloadContext) -> Iterator[Request]:
        from quire.text.known_answers import known_answer_tasks

        assert context.tokenizer is not None, "uses_text says so"
        config = self._config
        limits = self._limits = Limits(rule=TooLong.drop, longest=context.max_model_tokens)
        arrivals = poisson_arrivals(stream(context.seed, "demo arrivals"), config.rate)
        stories = -(-config.requests // STORY_EVERY)
        tasks = iter(known_answer_tasks(context.seed, config.requests - stories))
        for index in range(config.requests):
            if index % STORY_EVERY == 0:
                id, prompt = f"story-{index}", _beginning(context.seed, index)
            else:
                task = next(tasks)
                id, prompt = f"{task.kind}-{index}", task.prompt
                self._tasks[id] = task
            arrival, tokens = next(arrivals), tuple(context.tokenizer.encode(prompt))
            if limits.fit(len(tokens), 1, name=id) is None:
                continue
            room = context.max_model_tokens - len(tokens)
            yield Request(
                id=id,
                prompt_token_ids=tokens,
                sampling=SamplingParams(temperature=0.0, max_tokens=min(config.max_tokens, room)),
                arrival_time=arrival,
            )

    def notes(self) -> Mapping[str, Any]:
        return self._limits.notes() if self._limits is not None else {}

    def solved(self, request_id: str, text: str) -> bool | None:
        task = self._tasks.get(request_id)
        return None if task is None else task.solved_by(text)


def _beginning(seed: int, index: int) -> str:
    """The first sentence of a story."""
    from quire.text.stories import story

    text = story(Random(derive_seed(seed, "workload", "demo stories", index))).text
    return text.split(". ")[0].rstrip(".") + "."
