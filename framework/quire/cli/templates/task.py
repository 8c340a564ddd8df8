"""How fast it decodes, by the number of sequences that run together."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from quire.engine.request import Request, SamplingParams
from quire.errors import UserError
from quire.interfaces import Task

if TYPE_CHECKING:
    from quire.engine.engine import Engine
    from quire.run import Run


@dataclass
class NewPluginConfig:
    """Options of `task=new_plugin`."""

    batch_sizes: list[int] = field(default_factory=lambda: [1, 4, 16])
    """Sequences that run together; each is measured by itself."""
    prompt_tokens: int = 16
    output_tokens: int = 32

    def __post_init__(self) -> None:
        if not self.batch_sizes or min(self.batch_sizes) < 1:
            raise UserError(f"task.batch_sizes={self.batch_sizes}: must be numbers of at least 1")
        for name in ("prompt_tokens", "output_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"task.{name}={getattr(self, name)}: must be at least 1")


class NewPlugin(Task):
    """Output tokens per second for each batch size, on the console and in speed.json."""

    Config = NewPluginConfig

    def __init__(self, *, config: NewPluginConfig) -> None:
        self._config = config

    def run(self, run: Run) -> None:
        most = run.config.engine.max_sequences
        if max(self._config.batch_sizes) > most:
            raise UserError(f"task.batch_sizes={self._config.batch_sizes}: engine.max_sequences is {most}")
        speeds: dict[int, float] = {}
        with closing(run.engine(with_text=False)) as engine:
            random = Random(run.config.seed)
            self._measure(engine, random, sequences=1)  # whatever happens only once
            for sequences in self._config.batch_sizes:
                speeds[sequences] = self._measure(engine, random, sequences)
                run.console.print(f"{sequences:4} sequences: {speeds[sequences]:10.1f} output tokens/s")
        (run.directory / "speed.json").write_text(json.dumps(speeds, indent=2) + "\n")

    def _measure(self, engine: Engine, random: Random, sequences: int) -> float:
        """Serve that many requests at once; output tokens per second from the first step to the last."""
        sampling = SamplingParams(temperature=0.0, max_tokens=self._config.output_tokens, ignore_eos=True)
        for index in range(sequences):
            prompt = tuple(random.choices(range(engine.info.vocab_size), k=self._config.prompt_tokens))
            engine.add(Request(id=f"sequence-{index}", prompt_token_ids=prompt, sampling=sampling))
        began, tokens = engine.clock.now(), 0
        while engine.has_work:
            tokens += sum(len(output.token_ids) for output in engine.step())
        return tokens / (engine.clock.now() - began)
