"""A whole server in a thread: application, uvicorn on a free port, an engine on the demo model."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from pathlib import Path

import uvicorn

from quire.config.compose import compose
from quire.jobs.jsonl import JsonLinesWriter
from quire.registry import load_registry
from quire.run import Run
from quire.server.card import card_of
from quire.server.http.app import create_app
from quire.server.http.context import ServerContext
from quire.server.http.front_tokenizer import FrontTokenizer
from quire.server.http.serving import listen, url_of
from quire.server.limits import EngineLimits
from quire.server.local import LocalEngineClient
from quire.server.metrics import ServerMetrics
from quire.server.tools.choose import tool_format

OVERRIDES = ["dtype=float32", "device=cpu", "engine.threads=1", "engine.max_sequences=16"]


class LiveServer:
    """Runs from `__enter__` to `__exit__`. `options` are those of `server.*`; `api_keys` may ask."""

    def __init__(
        self, directory: Path, *, api_keys=(), limits: EngineLimits | None = None, tracer=None, **options
    ) -> None:
        registry = load_registry()
        composed = compose(OVERRIDES, registry)
        self.config = replace(composed.server, port=0, **options)
        self.run = Run(config=composed, registry=registry, directory=directory)
        self.tokenizer = self.run.tokenizer
        self.access_log = directory / "access.jsonl"
        self._api_keys = api_keys
        self._limits = limits
        self._tracer = tracer

    def __enter__(self) -> LiveServer:
        self.engine = self.run.engine()
        self.client = LocalEngineClient(
            engine=self.engine, card=card_of(self.run, self.engine), limits=self._limits
        )
        names = tuple(self.config.served_names) or ("demo",)
        metrics = ServerMetrics(model_name=names[0], prefix=self.config.metrics_prefix)
        self.client.observe(metrics.observe)
        self.context = ServerContext(
            client=self.client,
            config=self.config,
            tokenizer=FrontTokenizer(self.tokenizer),
            recipe=self.run.recipe,
            metrics=metrics,
            names=names,
            processors=frozenset(self.run.registry.available("logits_processor")),
            tool_format=tool_format(self.config.tool_format, self.tokenizer.chat_templates),
            created=1,
            version="0",
        )
        self._log = JsonLinesWriter(self.access_log)
        self.app = create_app(
            self.context, api_keys=self._api_keys, access_log=self._log, tracer=self._tracer
        )
        listener = listen(self.config)
        self.url = url_of(listener)
        self.port = listener.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(self.app, lifespan="off", log_config=None, timeout_graceful_shutdown=5)
        )
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(listener)))
        self._started = threading.Event()
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *error) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._log.close()
        self.engine.close()

    async def _serve(self, listener) -> None:
        self.loop = asyncio.get_running_loop()
        await self.client.start()
        self._started.set()
        await self._server.serve(sockets=[listener])
        await self.client.close()

    def log_lines(self) -> list[dict]:
        """The access log so far."""
        return [json.loads(line) for line in self.access_log.read_text().splitlines()]

    def stats(self):
        """The engine's counts as of now."""
        return asyncio.run_coroutine_threadsafe(self.client.stats(), self.loop).result()


def events(lines) -> list:
    """The data of a stream of events, decoded; [DONE] as it is."""
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [each if each == "[DONE]" else json.loads(each) for each in data]
