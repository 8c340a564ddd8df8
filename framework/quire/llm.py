"""The engine from Python: prompts in, completions out; or texts in, vectors and scores out.

from quire import LLM, SamplingParams

with LLM("demo") as llm:
    for completion in llm.generate(["Once upon a time", "The"], SamplingParams(max_tokens=40)):
        print(completion.samples[0].text)
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from quire.config.compose import compose
from quire.embedding.vectors import Vectors
from quire.engine.outputs import SequenceOutput
from quire.engine.request import Request, SamplingParams
from quire.errors import UserError
from quire.jobs.completions import Completion, Completions
from quire.jobs.engine_streams import EngineStreams
from quire.jobs.feed import serve
from quire.registry import load_registry
from quire.run import Run

if TYPE_CHECKING:
    import numpy as np

    from quire.engine.engine import Engine


class LLM:
    """A model, ready to be asked. Every policy is chosen as on the command line."""

    def __init__(self, model: str = "demo", overrides: Sequence[str] = ()) -> None:
        """Load `model` ("demo", a directory or a hub id). `overrides` are those of the command line, such as
        `["scheduler=sarathi", "engine.max_sequences=16"]`. Raises UserError, as the command line does.
        """
        registry = load_registry()
        config = replace(compose(overrides, registry), model=model)
        self._run = Run(config=config, registry=registry, directory=Path(tempfile.gettempdir()))
        embeds = self._run.checkpoint.makes_embeddings
        self._vectors = Vectors(self._run) if embeds else None
        self._loaded_engine = None if embeds else self._run.engine()
        self._open_streams: EngineStreams | None = None
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

    async def stream(
        self, prompt: str | Sequence[int], sampling: SamplingParams | None = None
    ) -> AsyncGenerator[SequenceOutput, None]:
        """Pieces of output as they are generated, of all n samples; any number of streams at once.

            async for piece in llm.stream("Once upon a time", SamplingParams(max_tokens=40)):
                print(piece.text, end="")

        Greedy by default. Closing the generator aborts the request. Raises RequestRefused if it can never be
        served. `generate` and `chat` may be called meanwhile, from this thread or another.
        """
        ids = self._run.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        (request,) = self._requests([ids], sampling)
        client = await self._streams.client()
        async with aclosing(client.generate(request)) as pieces:
            async for piece in pieces:
                yield piece

    def embed(
        self,
        texts: Iterable[str | Sequence[int]],
        *,
        prompt_name: str | None = None,
        dimensions: int | None = None,
        truncate: bool = False,
    ) -> np.ndarray:
        """Vectors [N, D], float32, of texts or token ids, from a model that makes embeddings.

        `prompt_name` is a prompt of the model's own, such as "query" or "document", put before each text;
        `dimensions` keeps so many of the first dimensions; `truncate` cuts a text that is too long, which is
        an error without it. Raises UserError.
        """
        return self._embedding.embed(texts, prompt_name=prompt_name, dimensions=dimensions, truncate=truncate)

    def score(self, query: str, documents: Iterable[str], *, truncate: bool = False) -> np.ndarray:
        """How well each document fits the query: float32 [N], the more the better.

        From a cross-encoder its own scores; from a model that makes embeddings the cosine of the angle
        between the vectors of query and document, each with the prompt that the model has for it.
        """
        return self._embedding.score(query, documents, truncate=truncate)

    def close(self) -> None:
        """Give back memory and threads."""
        if self._open_streams is not None:
            self._open_streams.close()
        if self._loaded_engine is not None:
            self._loaded_engine.close()

    def __enter__(self) -> LLM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _engine(self) -> Engine:
        if self._loaded_engine is None:
            raise UserError(
                f"model={self._run.config.model}: makes embeddings or scores and generates no text: use "
                "LLM.embed or LLM.score"
            )
        return self._loaded_engine

    @property
    def _streams(self) -> EngineStreams:
        if self._open_streams is None:
            self._open_streams = EngineStreams(run=self._run, engine=self._engine)
        return self._open_streams

    @property
    def _embedding(self) -> Vectors:
        if self._vectors is None:
            raise UserError(
                f"model={self._run.config.model}: generates text: embeddings and scores come from an "
                "encoder, a reranker, or a decoder with the files of sentence-transformers"
            )
        return self._vectors

    def _complete(
        self, prompts: Iterable[Sequence[int]], sampling: SamplingParams | None
    ) -> list[Completion]:
        requests = self._requests(prompts, sampling)
        ours = {request.id for request in requests}
        completions, engine = Completions(), self._engine
        whole: dict[str, Completion] = {}
        with self._streams.engine() as deliver:
            try:
                for outputs in serve(engine, completions.watch(requests), whole=True):
                    deliver([output for output in outputs if output.request_id not in ours])
                    engine.take_records()
                    answers = [output for output in outputs if output.request_id in ours]
                    whole |= {completion.request.id: completion for completion in completions.take(answers)}
                    if len(whole) == len(requests):  # streams go on without us
                        break
            except BaseException:
                for request_id in ours:
                    engine.abort(request_id)
                raise
        return [whole[request.id] for request in requests]

    def _requests(self, prompts: Iterable[Sequence[int]], sampling: SamplingParams | None) -> list[Request]:
        sampling = SamplingParams(temperature=0.0, max_tokens=256) if sampling is None else sampling
        requests = [
            Request(id=str(self._next_id + index), prompt_token_ids=tuple(prompt), sampling=sampling)
            for index, prompt in enumerate(prompts)
        ]
        self._next_id += len(requests)
        return requests
