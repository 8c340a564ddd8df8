"""Nothing is lost or reordered by holding pieces back; first and last pieces never wait."""

import math
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from quire.engine.outputs import SequenceOutput
from quire.engine.plan import TokenLogprobs
from quire.engine.sequence import FinishReason
from quire.server.outbox import Outbox

SAMPLES = [("a", 0), ("a", 1), ("b", 0), ("whole", 0), ("whole", 1)]


def piece(key, number, *, last=False):
    return SequenceOutput(
        request_id=key[0],
        index=key[1],
        token_ids=(number,),
        text=f"{number},",
        logprobs=(TokenLogprobs(token_id=number, logprob=-1.0, rank=1, top=()),),
        prompt_logprobs=(TokenLogprobs(token_id=99, logprob=-2.0, rank=1, top=()),) if not number else (),
        finish_reason=FinishReason.LENGTH if last else None,
    )


@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from(SAMPLES)), st.floats(0, 2)), max_size=20
    ),  # who has a token in a step, and how long the step takes
    st.sampled_from([math.inf, 1.0]),
)
def test_every_token_arrives_once_in_order(steps, rate):
    outbox = Outbox(rate=rate)
    outbox.hold("whole", samples=2)
    lengths = {key: sum(key in members for members, _ in steps) for key in SAMPLES}
    made, got, now = dict.fromkeys(SAMPLES, 0), defaultdict(list), 10.0
    for members, seconds in steps:
        now += seconds
        outputs = []
        for key in sorted(members):
            outputs.append(piece(key, made[key], last=made[key] == lengths[key] - 1))
            made[key] += 1
        for each in outbox.pass_on(outputs, now):
            got[each.request_id, each.index].append(each)
        for key in members:
            if key[0] != "whole" and (made[key] in (1, lengths[key]) or rate == math.inf):
                assert sum(len(each.token_ids) for each in got[key]) == made[key], "it must not wait"
    for key in SAMPLES:
        numbers = list(range(lengths[key]))
        assert [token for each in got[key] for token in each.token_ids] == numbers
        assert "".join(each.text for each in got[key]) == "".join(f"{number}," for number in numbers)
        assert [each.token_id for out in got[key] for each in out.logprobs] == numbers
        assert [each.finish_reason for each in got[key]][-1:] == [FinishReason.LENGTH][: len(numbers)]
        assert all(each.prompt_logprobs for each in got[key][:1])
        if key[0] == "whole":
            assert len(got[key]) == min(1, lengths[key])


def test_what_is_held_leaves_when_its_turn_comes():
    outbox = Outbox(rate=1.0)
    key = ("a", 0)
    assert len(outbox.pass_on([piece(key, 0)], 10.0)) == 1
    assert outbox.pass_on([piece(key, 1)], 10.2) == []
    assert outbox.pass_on([], 10.9) == []
    (late,) = outbox.pass_on([], 11.1)
    assert late.token_ids == (1,)


def test_all_streams_share_the_rate():
    outbox = Outbox(rate=10.0)
    keys = [(str(number), 0) for number in range(20)]
    outbox.pass_on([piece(key, 0) for key in keys], 10.0)
    assert outbox.pass_on([piece(key, 1) for key in keys], 11.9) == []
    assert len(outbox.pass_on([piece(key, 2) for key in keys], 12.0)) == 20
    for key in keys[1:]:
        assert len(outbox.pass_on([piece(key, 3, last=True)], 12.0)) == 1
    (alone,) = outbox.pass_on([piece(keys[0], 3)], 12.2)
    assert alone.token_ids == (3,)
