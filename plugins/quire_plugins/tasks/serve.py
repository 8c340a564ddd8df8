"""Serve a model over HTTP, as OpenAI's and vLLM's clients expect."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.interfaces.task import Task

if TYPE_CHECKING:
    from quire.jobs.jsonl import JsonLinesWriter
    from quire.run import Run
    from quire.server.client import EngineClient
    from quire.server.http.context import ServerContext


@dataclass
class ServeConfig:
    """It has no options of its own: those of the server are `server.*`."""


class ServeTask(Task):
    """Answers HTTP requests until SIGTERM or Ctrl-C, then lets those in progress end."""

    Config = ServeConfig

    def __init__(self, *, config: ServeConfig) -> None:
        del config

    def run(self, run: Run) -> None:
        import asyncio

        import uvloop

        from quire.jobs.heap import settle_heap
        from quire.server.http.app import create_app
        from quire.server.http.auth import read_api_keys
        from quire.server.http.serving import listen, serve, url_of
        from quire.server.otlp import trace_provider
        from quire.server.process import ProcessEngineClient

        config = run.config.server
        client = ProcessEngineClient(config=run.config, directory=run.directory, limits=config.limits)
        context = server_context(run, client)
        keys = read_api_keys(config.api_keys_file)
        traces = trace_provider(config.otlp_endpoint, version=context.version)
        listener = listen(config)

        def ready() -> None:
            settle_heap()
            run.console.print(
                f"serving {context.names[0]} at {url_of(listener)}", markup=False, soft_wrap=True
            )

        run.console.print(f"loading model {run.config.model}", markup=False, soft_wrap=True)
        with ExitStack() as open_things:
            open_things.enter_context(closing(listener))
            log = open_things.enter_context(closing(open_access_log(run)))
            tracer = None
            if traces is not None:
                open_things.callback(traces.shutdown)
                tracer = traces.get_tracer("quire", context.version)
            app = create_app(context, api_keys=keys, access_log=log, tracer=tracer)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve(app, client=client, config=config, listener=listener, on_ready=ready))


def server_context(run: Run, client: EngineClient) -> ServerContext:
    """What the routes need to answer for the model of `run`, which `client` serves."""
    import importlib.metadata
    import time

    from quire.server.http.context import ServerContext
    from quire.server.http.front_tokenizer import FrontTokenizer
    from quire.server.metrics import ServerMetrics
    from quire.server.tools.choose import tool_format

    config = run.config.server
    names = tuple(config.served_names) or (run.config.model,)
    metrics = ServerMetrics(model_name=names[0], prefix=config.metrics_prefix)
    client.observe(metrics.observe)
    return ServerContext(
        client=client,
        config=config,
        tokenizer=FrontTokenizer(run.tokenizer),
        recipe=run.recipe,
        metrics=metrics,
        names=names,
        processors=frozenset(run.registry.available("logits_processor")),
        tool_format=tool_format(config.tool_format, run.tokenizer.chat_templates),
        created=int(time.time()),
        version=importlib.metadata.version("quire"),
    )


def open_access_log(run: Run) -> JsonLinesWriter:
    """The access log. Raises UserError if it cannot be written."""
    from quire.jobs.jsonl import JsonLinesWriter

    given = run.config.server.access_log
    path = Path(given) if given else run.directory / "access.jsonl"
    try:
        return JsonLinesWriter(path)
    except OSError as error:
        raise UserError(f"server.access_log={str(path)!r}: cannot be written: {error.strerror}") from None
