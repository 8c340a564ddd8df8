"""What is told of a sequence, and when: nothing is lost, doubled or late, however pieces are held back."""

from itertools import cycle
from pathlib import Path

import pytest
from checkpoints import make_checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quire.config.compose import compose
from quire.engine.news import News
from quire.engine.plan import TokenLogprobs
from quire.engine.request import Request, SamplingParams
from quire.engine.sequence import FinishReason
from quire.registry import load_registry
from quire.run import Run
from quire.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    registry = load_registry()
    return Run(config=compose(["device=cpu"], registry), registry=registry, directory=Path()).tokenizer


@given(
    ids=st.lists(st.integers(0, 2047), max_size=40),
    told=st.sets(st.integers(0, 40)),
    stop=st.sampled_from([(), ("e",), ("the ", " a"), ("zzzz",)]),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_joined_are_what_comes_token_by_token(tokenizer, ids, told, stop):
    expected, stream, stopped_at = "", tokenizer.stream(stop=stop), None
    for at, token in enumerate(ids):
        expected += stream.append([token])
        if stream.stopped and stopped_at is None:
            stopped_at = at
    expected += stream.flush()

    tokens = [5, 6, 7]
    news = News(tokens=tokens, text=tokenizer.stream(stop=stop))
    pieces = []
    for at, token in enumerate(ids):
        tokens.append(token)
        news.add(TokenLogprobs(token_id=token, logprob=-1.0, rank=1, top=()))
        assert news.stopped == (stopped_at is not None and at >= stopped_at)
        if at in told:
            pieces.append(news.take(last=False))
            assert news.num_tokens == 0
    assert news.num_tokens == len(ids) - sum(len(piece[0]) for piece in pieces)
    pieces.append(news.take(last=True))
    assert [token for piece in pieces for token in piece[0]] == ids
    assert "".join(piece[1] for piece in pieces) == expected
    assert [each.token_id for piece in pieces for each in piece[2]] == ids


def test_text_without_stop_strings_is_made_when_it_is_told(tokenizer):
    class Counting:
        def __init__(self, stop):
            self.stream, self.calls = tokenizer.stream(stop=stop), 0

        def append(self, ids):
            self.calls += 1
            return self.stream.append(ids)

        def __getattr__(self, name):
            return getattr(self.stream, name)

    for stop, calls in (((), 1), (("zzzz",), 9)):
        tokens, text = [1], Counting(stop)
        news = News(tokens=tokens, text=text)
        for token in range(20, 29):
            tokens.append(token)
            news.add(None)
        news.take(last=False)
        assert text.calls == calls


REQUESTS = [
    Request(
        id=f"r{i}",
        prompt_token_ids=tuple(range(10 + i, 24 + 2 * i)),
        sampling=SamplingParams(
            temperature=float(i % 2), seed=i, n=1 + i % 2, max_tokens=3 + 5 * i, logprobs=1, prompt_logprobs=0
        ),
    )
    for i in range(4)
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    path = tmp_path_factory.mktemp("qwen2")
    make_checkpoint("qwen2", path)
    registry = load_registry()
    overrides = [f"model={path}", "dtype=float32", "device=cpu", "engine.threads=1"]
    engine = Run(config=compose(overrides, registry), registry=registry, directory=path).engine(
        with_text=False
    )
    yield engine
    engine.close()


def pieces_of(engine, whole=(), lets=None, abort_after=None):
    """Pieces of each sample, with the step at which each came, and when each of its tokens was made."""
    for request in REQUESTS:
        engine.add(request, whole=request.id in whole)
    pieces, step = {}, 0
    while engine.has_work:
        step += 1
        if step == abort_after:
            engine.abort("r3")
        for piece in engine.step() if lets is None else engine.step(lets=lets):
            pieces.setdefault((piece.request_id, piece.index), []).append((step, piece))
    return pieces


def joined(pieces, field):
    return [each for _, piece in pieces for each in getattr(piece, field)]


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.sets(st.sampled_from(["r1", "r2", "r3"])))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_held_back_all_arrives_in_order_and_ends_are_never_late(engine, held, whole):
    expected = pieces_of(engine)
    answers = cycle(held)
    got = pieces_of(engine, whole, lambda pieces: next(answers) if True in held else False)
    assert got.keys() == expected.keys()
    for key, plain in expected.items():
        pieces = got[key]
        assert joined(pieces, "token_ids") == joined(plain, "token_ids")
        assert joined(pieces, "prompt_logprobs") == joined(plain, "prompt_logprobs")
        assert [each.token_id for each in joined(pieces, "logprobs")] == joined(plain, "token_ids")
        assert pieces[0][1].prompt_logprobs, "they come with the first piece"
        assert [piece.finish_reason for _, piece in pieces[:-1]] == [None] * (len(pieces) - 1)
        assert pieces[-1][1].finish_reason is plain[-1][1].finish_reason
        assert pieces[-1][1].record.num_output_tokens == len(joined(plain, "token_ids"))
        assert pieces[-1][0] == plain[-1][0], "an end does not wait"
        if key[0] in whole:
            assert len(pieces) == 1
        else:
            assert pieces[0][0] == plain[0][0], "nor does a beginning"
        if True not in held:
            assert len(pieces) <= 2


def test_whoever_lets_nothing_go_is_asked_about_all_that_have_begun(engine):
    asked = []
    pieces_of(engine, whole=("r3",), lets=lambda pieces: asked.append(pieces))
    assert max(asked) == 3, "both samples of r1, and r2: r0 ends as the second sample begins"
    assert min(asked) > 0, "nobody is asked about nothing"


def test_what_was_held_back_comes_with_the_end_of_a_request_called_off(engine):
    plain = pieces_of(engine, abort_after=6)
    held = pieces_of(engine, abort_after=6, lets=lambda pieces: False)
    for key, pieces in held.items():
        assert joined(pieces, "token_ids") == joined(plain[key], "token_ids")
    (_, first), (_, last) = held["r3", 0]
    assert len(first.token_ids) == 1
    assert len(last.token_ids) > 1
    assert last.finish_reason is FinishReason.ABORT


def test_an_interrupt_loses_no_piece(engine, monkeypatch):
    plain = pieces_of(engine)
    for request in REQUESTS:
        engine.add(request)
    take, pieces, interrupts = News.take, {}, 0

    def interrupted(self, *, last):
        nonlocal interrupts
        interrupts += 1
        if interrupts % 3 == 0 and not last:
            raise KeyboardInterrupt
        return take(self, last=last)

    monkeypatch.setattr(News, "take", interrupted)
    while engine.has_work:
        try:
            for piece in engine.step():
                pieces.setdefault((piece.request_id, piece.index), []).append((0, piece))
        except KeyboardInterrupt:
            pass
    for key, expected in plain.items():
        assert joined(pieces[key], "token_ids") == joined(expected, "token_ids")
        assert sum(piece.finish_reason is not None for _, piece in pieces[key]) == 1


def test_tokens_are_counted_when_they_are_made(engine):
    before = engine.num_generated
    for request in REQUESTS:
        engine.add(request, whole=True)
    told, made = 0, []
    while engine.has_work:
        told += sum(len(piece.token_ids) for piece in engine.step())
        made.append((engine.num_generated - before, told))
    assert made[-1][0] == made[-1][1] == sum(r.sampling.n * r.sampling.max_tokens for r in REQUESTS)
    assert any(count > told for count, told in made)
