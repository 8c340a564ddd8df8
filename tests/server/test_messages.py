"""Everything that crosses the pipe arrives as it was sent, in whatever pieces the bytes come."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from quire.engine.outputs import SequenceOutput
from quire.engine.plan import TokenLogprobs
from quire.engine.records import RequestRecord
from quire.engine.request import Request, SamplingParams
from quire.engine.sequence import FinishReason
from quire.server.client import EngineStats
from quire.server.frames import FrameReader, frame
from quire.server.messages import Add, Command, Outputs, Reply, Stats

INTEGERS = st.integers(0, 2**53)
FLOATS = st.floats(allow_nan=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
IDS = st.lists(st.integers(0, 2**31), max_size=5).map(tuple)
LOGPROBS = st.lists(
    st.builds(
        TokenLogprobs,
        token_id=INTEGERS,
        logprob=FLOATS,
        rank=INTEGERS,
        top=st.lists(st.tuples(INTEGERS, FLOATS), max_size=3).map(tuple),
    ),
    max_size=3,
).map(tuple)
RECORDS = st.builds(
    RequestRecord,
    request_id=TEXTS,
    sample=INTEGERS,
    tenant=TEXTS,
    arrival=FLOATS,
    num_prompt_tokens=INTEGERS,
    first_scheduled=st.none() | FLOATS,
    token_times=st.lists(FLOATS, max_size=4),
    finish=st.none() | FLOATS,
    finish_reason=st.none() | TEXTS,
    error=st.none() | TEXTS,
)
OUTPUTS = st.builds(
    SequenceOutput,
    request_id=TEXTS,
    index=INTEGERS,
    token_ids=IDS,
    text=TEXTS,
    logprobs=LOGPROBS,
    prompt_logprobs=LOGPROBS,
    finish_reason=st.none() | st.sampled_from(FinishReason),
    error=st.none() | TEXTS,
    record=st.none() | RECORDS,
)
SAMPLINGS = st.builds(
    SamplingParams,
    temperature=st.floats(0, 2),
    top_k=st.none() | st.integers(1, 99),
    top_p=st.floats(0.1, 1),
    logit_bias=st.dictionaries(st.integers(0, 2000), st.floats(-100, 100), max_size=4),
    allowed_token_ids=st.none() | st.just((1, 2, 3)),
    bad_token_ids=IDS,
    seed=st.none() | st.integers(-(2**63), 2**64 - 1),
    n=st.integers(1, 4),
    stop=st.lists(TEXTS.filter(bool), max_size=3).map(tuple),
    stop_token_ids=IDS,
    logprobs=st.none() | st.integers(0, 20),
    prompt_logprobs=st.none() | st.integers(0, 20),
    extra=st.dictionaries(TEXTS, JSON, max_size=3),
)
REQUESTS = st.builds(
    Request,
    id=TEXTS,
    prompt_token_ids=IDS.filter(bool),
    sampling=SAMPLINGS,
    tenant=TEXTS,
    priority=st.integers(-5, 5),
    deadline=st.none() | FLOATS,
    session=st.none() | TEXTS,
    forced_output_tokens=st.none() | st.integers(1, 9),
)
encode = msgspec.msgpack.Encoder().encode


@given(st.lists(OUTPUTS, max_size=4), INTEGERS, INTEGERS)
def test_outputs(outputs, seen, waiting):
    sent = Outputs(outputs=outputs, seen=seen, waiting=waiting)
    got = msgspec.msgpack.Decoder(Reply).decode(encode(sent))
    assert got == sent
    assert all(type(each) is SequenceOutput for each in got.outputs)


@given(REQUESTS, st.booleans())
def test_requests(request_, whole):
    sent = Add(request=request_, whole=whole)
    assert msgspec.msgpack.Decoder(Command).decode(encode(sent)) == sent


def test_stats():
    sent = Stats(call=3, stats=EngineStats(running=2, kv_used=3, kv_total=12, busy_seconds=0.5))
    got = msgspec.msgpack.Decoder(Reply).decode(encode(sent))
    assert got == sent
    assert got.stats.kv_usage == 0.25


@given(st.lists(st.binary(max_size=300), max_size=6), st.data())
def test_frames_come_whole_however_the_bytes_are_cut(payloads, data):
    stream = b"".join(map(frame, payloads))
    reader, got = FrameReader(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += reader.feed(stream[:size])
        stream = stream[size:]
    assert got == payloads
