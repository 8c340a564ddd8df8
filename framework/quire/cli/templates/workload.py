"""Bursts: so many requests at once, then silence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from quire.engine.request import Request, SamplingParams
from quire.errors import UserError
from quire.interfaces import Workload, WorkloadContext


@dataclass
class NewPluginConfig:
    """Options of `workload=new_plugin`."""

    bursts: int = 4
    """How many bursts."""
    size: int = 8
    """Requests in each."""
    gap: float = 1.0
    """Seconds from one burst to the next."""
    prompt_tokens: int = 64
    output_tokens: int = 32

    def __post_init__(self) -> None:
        for name in ("bursts", "size", "prompt_tokens", "output_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"workload.{name}={getattr(self, name)}: must be at least 1")
        if not 0 <= self.gap < float("inf"):
            raise UserError(f"workload.gap={self.gap}: must be a finite number of seconds >= 0")


class NewPlugin(Workload):
    """Bursts of requests of random tokens, all of the same lengths."""

    Config = NewPluginConfig

    def __init__(self, *, config: NewPluginConfig) -> None:
        self._config = config

    def __len__(self) -> int:
        return self._config.bursts * self._config.size

    def requests(self, context: WorkloadContext) -> Iterator[Request]:
        config = self._config
        longest = config.prompt_tokens + config.output_tokens
        if longest > context.max_model_tokens:
            raise UserError(
                f"workload.prompt_tokens and workload.output_tokens: {longest} together, must be at most "
                f"{context.max_model_tokens}, the longest sequence that the engine admits"
            )
        random = Random(context.seed)  # the same seed, the same requests
        sampling = SamplingParams(temperature=0.0, max_tokens=config.output_tokens, ignore_eos=True)
        for index in range(len(self)):
            yield Request(
                id=f"burst-{index}",
                prompt_token_ids=tuple(random.choices(range(context.vocab_size), k=config.prompt_tokens)),
                sampling=sampling,
                arrival_time=index // config.size * config.gap,
            )
