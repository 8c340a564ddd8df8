"""The main program of an engine's process."""

from __future__ import annotations

import signal
import socket
import sys
import traceback
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from quire.engine.request import DEFAULT_TENANT
from quire.errors import UserError
from quire.jobs.heap import settle_heap
from quire.server.card import card_of, embedding_card_of
from quire.server.link import Link, LinkClosed, SocketLink
from quire.server.messages import Failed, Ready

if TYPE_CHECKING:
    from quire.config.run_config import RunConfig
    from quire.server.limits import EngineLimits

_GOODBYE_SECONDS = 5.0


def main(sock: socket.socket, config: RunConfig, directory: Path, limits: EngineLimits) -> None:
    """Build the engine that `config` describes and serve it over `sock` until told to stop.

    Signals that a terminal or a service manager sends to the whole group are the parent's to act on. Should
    the parent be killed, the socket closes and this process ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    link = SocketLink(sock)
    try:
        _serve(link, config, directory, limits)
        link.flush(_GOODBYE_SECONDS)
    except LinkClosed:
        sys.exit(1)
    except Exception as error:
        by_user = isinstance(error, UserError)
        if not by_user:
            traceback.print_exc()
        reason = str(error) if by_user else f"{type(error).__name__}: {error}"
        link.send(Failed(reason=reason, by_user=by_user))
        link.flush(_GOODBYE_SECONDS)
        sys.exit(1)


def _serve(link: Link, config: RunConfig, directory: Path, limits: EngineLimits) -> None:
    from quire.jobs.warm_up import warm_up, warm_up_embedder
    from quire.registry import load_registry
    from quire.run import Run

    run = Run(config=config, registry=load_registry(), directory=directory)
    if run.checkpoint.makes_embeddings:
        from quire.server.embedding_host import EmbeddingHost

        embedder = run.embedder()
        warm_up_embedder(embedder)
        settle_heap()
        link.send(Ready(card=embedding_card_of(run, embedder)))
        EmbeddingHost(embedder=embedder, link=link).run()
        return
    from quire.server.host import EngineHost

    with closing(run.engine()) as engine:
        warm_up(engine, tenant=DEFAULT_TENANT)
        engine.take_records()
        settle_heap()
        link.send(Ready(card=card_of(run, engine)))
        EngineHost(engine=engine, link=link, limits=limits).run()
