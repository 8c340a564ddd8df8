"""The loop around an embedder: what waits is computed together, so that small calls do not cost extra."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from quire.embedding.embedder import Embedder
from quire.errors import UserError
from quire.server.client import EngineStats
from quire.server.link import Link
from quire.server.messages import (
    Add,
    AskScores,
    AskStats,
    AskVectors,
    CallFailed,
    CancelCall,
    Command,
    Refused,
    Reply,
    Scores,
    Stats,
    Stop,
    Vectors,
)

_TOGETHER = 32768
"""Tokens of the calls that are computed in one go; one call alone may have more."""

Question = AskVectors | AskScores


class EmbeddingHost:
    """Serves one embedder to whoever is at the other end of `link`, in the thread that calls `run`."""

    def __init__(self, *, embedder: Embedder, link: Link) -> None:
        self._embedder = embedder
        self._link = link
        self._waiting: deque[Question] = deque()
        self._stats = EngineStats()
        self._stopped = False

    def run(self) -> None:
        """Until told to stop. Raises LinkClosed if the client goes."""
        while not self._stopped:
            for command in self._link.receive(wait=not self._waiting):
                self._obey(command)
            if self._waiting and not self._stopped:
                self._answer(self._next())

    def _obey(self, command: Command) -> None:
        match command:
            case AskVectors() | AskScores():
                self._waiting.append(command)
            case CancelCall():
                self._waiting = deque(each for each in self._waiting if each.call != command.call)
            case AskStats():
                stats = replace(self._stats, waiting=len(self._waiting))
                self._link.send(Stats(call=command.call, stats=stats))
            case Add():
                reason = f"model={self._embedder.info.name}: makes no text, but vectors or scores of texts"
                self._link.send(Refused(request_id=command.request.id, reason=reason))
            case Stop():
                self._stopped = True
            case _:  # Abort: a request that was refused has ended
                pass

    def _next(self) -> list[Question]:
        """The calls to compute now: those in front that are of one kind, while they are not too long."""
        first = self._waiting.popleft()
        taken, tokens = [first], _tokens(first)
        while self._waiting and _kind(self._waiting[0]) == _kind(first):
            tokens += _tokens(self._waiting[0])
            if tokens > _TOGETHER:
                break
            taken.append(self._waiting.popleft())
        return taken

    def _answer(self, calls: Sequence[Question]) -> None:
        """Compute `calls` together; if that fails each alone, so that only the guilty one suffers."""
        began = time.perf_counter()
        try:
            replies = self._computed(calls)
        except Exception as error:
            if len(calls) > 1:
                for call in calls:
                    self._answer([call])
                return
            by_user = isinstance(error, UserError)
            reason = str(error) if by_user else f"{type(error).__name__}: {error}"
            replies = [CallFailed(call=calls[0].call, reason=reason, by_user=by_user)]
        self._stats = replace(
            self._stats,
            steps=self._stats.steps + 1,
            computed_tokens=self._stats.computed_tokens + sum(map(_tokens, calls)),
            busy_seconds=self._stats.busy_seconds + time.perf_counter() - began,
        )
        for reply in replies:
            self._link.send(reply)

    def _computed(self, calls: Sequence[Question]) -> list[Reply]:
        texts = [text for call in calls for text in call.token_ids]
        reply: Callable[[int, np.ndarray], Reply]
        if isinstance(calls[0], AskVectors):
            results, reply = self._embedder.embed(texts), _vectors
        else:
            pairs = (call for call in calls if isinstance(call, AskScores))
            types = [each for call in pairs for each in call.token_type_ids or ()]
            results, reply = self._embedder.score(texts, types or None), _scores
        ends = np.cumsum([len(call.token_ids) for call in calls])[:-1]
        return [reply(call.call, part) for call, part in zip(calls, np.split(results, ends), strict=True)]


def _vectors(call: int, vectors_ND: np.ndarray) -> Reply:
    data = np.ascontiguousarray(vectors_ND, dtype=np.float32).tobytes()
    return Vectors(call=call, count=len(vectors_ND), data=data)


def _scores(call: int, scores_N: np.ndarray) -> Reply:
    return Scores(call=call, scores=scores_N.tolist())


def _tokens(call: Question) -> int:
    return sum(map(len, call.token_ids))


def _kind(call: Question) -> tuple[type[Question], bool]:
    """Calls of one kind can be computed together."""
    return type(call), isinstance(call, AskScores) and call.token_type_ids is not None
