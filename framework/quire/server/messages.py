"""What a client and its engine say to each other. Each is one frame of msgpack on the pipe (see `frames`)."""

from __future__ import annotations

import msgspec

from quire.engine.outputs import SequenceOutput
from quire.engine.request import Request
from quire.server.client import EngineStats, ModelCard


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """An array on the wire: the class's name, then its fields in order."""


# -- to the engine -----------------------------------------------------------------------------------------


class Add(Message, frozen=True, tag=True):
    """Serve a request; with `whole` each sample is handed over in one piece."""

    request: Request
    whole: bool


class Abort(Message, frozen=True, tag=True):
    """Call a request off. What it had comes back as outputs that say ABORT."""

    request_id: str


class AskStats(Message, frozen=True, tag=True):
    """Answered by `Stats` of the same `call`."""

    call: int


class AskVectors(Message, frozen=True, tag=True):
    """Answered by `Vectors`, or `CallFailed`."""

    call: int
    token_ids: list[list[int]]


class AskScores(Message, frozen=True, tag=True):
    """Answered by `Scores`, or `CallFailed`."""

    call: int
    token_ids: list[list[int]]
    token_type_ids: list[list[int]] | None


class CancelCall(Message, frozen=True, tag=True):
    """Nobody waits for this call's answer any more."""

    call: int


class Stop(Message, frozen=True, tag=True):
    """End, with nothing more to say."""


Command = Add | Abort | AskStats | AskVectors | AskScores | CancelCall | Stop

# -- from the engine ---------------------------------------------------------------------------------------


class Ready(Message, frozen=True, tag=True):
    """The model is loaded."""

    card: ModelCard


class Failed(Message, frozen=True, tag=True):
    """The engine's last words: why it could not start, or cannot go on."""

    reason: str
    by_user: bool
    """Whether it is the user's mistake, a UserError."""


class Outputs(Message, frozen=True, tag=True):
    """All news of one step. `seen` counts the `Add`s that the engine has read, `waiting` its queue."""

    outputs: list[SequenceOutput]
    seen: int
    waiting: int


class Refused(Message, frozen=True, tag=True):
    """A request that can never be served."""

    request_id: str
    reason: str


class CallFailed(Message, frozen=True, tag=True):
    """A question that cannot be answered."""

    call: int
    reason: str
    by_user: bool
    """Whether the question is at fault."""


class Stats(Message, frozen=True, tag=True):
    """Answers `AskStats`."""

    call: int
    stats: EngineStats


class Vectors(Message, frozen=True, tag=True):
    """Answers `AskVectors`: `count` vectors one after another, float32 in this machine's byte order."""

    call: int
    count: int
    data: bytes


class Scores(Message, frozen=True, tag=True):
    """Answers `AskScores`."""

    call: int
    scores: list[float]


Reply = Ready | Failed | Outputs | Refused | CallFailed | Stats | Vectors | Scores
