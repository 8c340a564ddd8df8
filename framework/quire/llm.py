"""The engine from Python: prompts in, completions out.

from quire import LLM, SamplingParams

with LLM("demo") as llm:
    for completion in llm.generate(["Once upon a time", "The"], SamplingParams(max_tokens=40)):
        print(completion.samples[0].text)
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from quire.config.compose import compose
from quire.engine.request import Request, SamplingParams
from quire.jobs.completions import Completion, Completions
from quire.jobs.feed import serve
from quire.registry import load_registry
from quire.run import Run


class LLM:
    """A model, ready to be asked. Every policy is chosen as on the command line."""

    def __init__(self, model: str = "demo", overrides: Sequence[str] = ()) -> None:
        """Load `model` ("demo", a directory or a hub id). `overrides` are those of the command line, such as
        `["scheduler=sarathi", "engine.max_sequences=16"]`. Raises UserError, as the command line does.
        """
        registry = load_registry()
        config = replace(compose(overrides, registry), model=model)
        self._run = Run(config=config, registry=registry, directory=Path(tempfile.gettempdir()))
        self._engine = self._run.engine()
        self._next_id = 0

    def generate(
        self, prompts: Iterable[str | Sequence[int]], sampling: SamplingParams | None = None
    ) -> list[Completion]:
        """Continue each prompt (text, or token ids); completions come in the order of the prompts.

        All share `sampling`, greedy by default. A prompt that cannot be served does not stop the others: its
        completion has an `error`.
        """
        encode = self._run.tokenizer.encode
        return self._complete(
            (encode(prompt) if isinstance(prompt, str) else prompt for prompt in prompts), sampling
        )

    def chat(
        self,
        conversations: Iterable[Sequence[Mapping[str, Any]]],
        sampling: SamplingParams | None = None,
    ) -> list[Completion]:
        """Answer each conversation: messages with "role" and "content", through the model's chat template."""
        tokenizer = self._run.tokenizer
        return self._complete(
            (
                tokenizer.encode(tokenizer.apply_chat_template(messages), add_special_tokens=False)
                for messages in conversations
            ),
            sampling,
        )

    def close(self) -> None:
        """Give back memory and threads."""
        self._engine.close()

    def __enter__(self) -> LLM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _complete(
        self, prompts: Iterable[Sequence[int]], sampling: SamplingParams | None
    ) -> list[Completion]:
        sampling = SamplingParams(temperature=0.0, max_tokens=256) if sampling is None else sampling
        requests = [
            Request(id=str(self._next_id + index), prompt_token_ids=tuple(prompt), sampling=sampling)
            for index, prompt in enumerate(prompts)
        ]
        self._next_id += len(requests)
        completions = Completions()
        whole: dict[str, Completion] = {}
        for outputs in serve(self._engine, completions.watch(requests)):
            self._engine.take_records()
            whole |= {completion.request.id: completion for completion in completions.take(outputs)}
        return [whole[request.id] for request in requests]
