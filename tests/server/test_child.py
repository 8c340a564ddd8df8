"""An engine's process before it says that it is ready: it has served a request, of which nothing is left."""

import pytest
from engines import demo_config
from text_checkpoints import ENCODERS, RERANKERS, THREE_LABELS, make_checkpoint

from quire.embedding.embedder import Embedder
from quire.engine.request import Request, SamplingParams
from quire.jobs import warm_up
from quire.server import child
from quire.server.client import EngineStats
from quire.server.limits import EngineLimits
from quire.server.link import Link
from quire.server.messages import (
    Add,
    AskScores,
    AskStats,
    AskVectors,
    Command,
    Outputs,
    Ready,
    Refused,
    Reply,
    Scores,
    Stats,
    Stop,
    Vectors,
)


class ScriptedLink(Link):
    """Says its commands one after the other, and that it is over when there is nothing more to do."""

    def __init__(self, *commands: Command) -> None:
        self._commands = list(commands)
        self.sent: list[Reply] = []

    def receive(self, *, wait: bool) -> list[Command]:
        if self._commands:
            return [self._commands.pop(0)]
        return [Stop()] if wait else []

    def send(self, reply: Reply) -> None:
        self.sent.append(reply)


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Run a child's program here, and return what it sends."""
    monkeypatch.setattr(child, "settle_heap", lambda: None)  # it would be the heap of all tests

    def serve(config, *commands: Command) -> list[Reply]:
        link = ScriptedLink(*commands)
        child._serve(link, config, tmp_path, EngineLimits(check_memory=True))
        return link.sent

    return serve


@pytest.fixture
def warmed(monkeypatch):
    """The engines that were warmed up, each with the steps that it took."""
    warmed = []
    plain = warm_up.warm_up

    def noting(engine, *, tenant):
        plain(engine, tenant=tenant)
        warmed.append((engine, engine._dispatch.num_plans))

    monkeypatch.setattr(warm_up, "warm_up", noting)
    return warmed


def request(tenant: str = "default") -> Request:
    """One whose prefix the warm-up's request would give, if it were cached."""
    return Request(
        id="first",
        prompt_token_ids=(0, 0, 0, 7),
        sampling=SamplingParams(temperature=0.0, max_tokens=6, ignore_eos=True),
        tenant=tenant,
    )


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("allocator=radix",),
        ("scheduler=past_future", "predictor=history", "engine.overlap=false"),
    ],
    ids=" ".join,
)
def test_a_request_has_been_served_before_and_left_nothing(serve, warmed, overrides):
    sent = serve(demo_config(*overrides), AskStats(call=1), Add(request=request(), whole=True))
    ((engine, steps),) = warmed
    assert 2 <= steps <= 3, "a prompt, and tokens after it"
    ready, stats, *outputs = sent
    assert isinstance(ready, Ready)
    assert isinstance(stats, Stats)
    assert stats.stats == EngineStats(kv_total=stats.stats.kv_total)
    pieces = [piece for each in outputs if isinstance(each, Outputs) for piece in each.outputs]
    assert [(piece.request_id, len(piece.token_ids)) for piece in pieces] == [("first", 6)]
    assert pieces[0].record.num_cached_tokens == 0
    if predictor := engine._scheduler.predictor:
        assert [len(each) for each in predictor._lengths.values()] == [1], "of the first user's output"


def test_a_scheduler_that_refuses_the_warm_up_starts_all_the_same(serve, warmed):
    config = demo_config("scheduler=vtc", "+scheduler.weights.alice=2")
    sent = serve(
        config,
        AskStats(call=1),
        Add(request=request(), whole=True),
        Add(request=request("alice"), whole=True),
    )
    assert [steps for _, steps in warmed] == [0]
    ready, stats, *others = sent
    assert isinstance(ready, Ready)
    assert stats.stats == EngineStats(kv_total=stats.stats.kv_total)
    assert [each.request_id for each in others if isinstance(each, Refused)] == ["first"]
    pieces = [piece for each in others if isinstance(each, Outputs) for piece in each.outputs]
    assert [len(piece.token_ids) for piece in pieces] == [6]


@pytest.mark.parametrize(
    ("family", "question", "answer"),
    [
        (ENCODERS["bert"], AskVectors(call=2, token_ids=[[5, 6]]), Vectors),
        (RERANKERS["bert"], AskScores(call=2, token_ids=[[5, 6]], token_type_ids=None), Scores),
    ],
    ids=["vectors", "scores"],
)
def test_a_text_has_been_computed_before(serve, tmp_path, monkeypatch, family, question, answer):
    computed = []
    for name in ("_vectors", "_logits"):
        plain = getattr(Embedder, name)

        def noting(self, texts, *rest, plain=plain):
            computed.append([len(text) for text in texts])
            return plain(self, texts, *rest)

        monkeypatch.setattr(Embedder, name, noting)
    make_checkpoint(family, tmp_path)
    config = demo_config(f"model={tmp_path}", "ops=torch")
    ready, stats, reply = serve(config, AskStats(call=1), question)
    assert isinstance(ready, Ready)
    assert stats.stats == EngineStats()
    assert isinstance(reply, answer)
    assert computed == [[2], [2]]


def test_a_head_that_gives_no_scores_starts_all_the_same(serve, tmp_path):
    make_checkpoint(THREE_LABELS, tmp_path)
    config = demo_config(f"model={tmp_path}", "ops=torch")
    assert [type(each) for each in serve(config)] == [Ready]
