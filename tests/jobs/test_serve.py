"""Feeding the engine: open load on its clock, refusals, reading no further ahead than told."""

import pytest

from quire.clock import VirtualClock
from quire.engine.config import EngineConfig
from quire.engine.engine import Engine
from quire.engine.request import Request, SamplingParams
from quire.engine.sequence import FinishReason
from quire.interfaces.allocator import KVGroup, KVLayout
from quire.jobs.feed import serve
from quire.models.model import ModelInfo
from quire.testing.script import Script
from quire.testing.scripted_executor import ScriptedExecutor
from quire_plugins.allocators.paged import PagedAllocator
from quire_plugins.eviction.lru import Lru
from quire_plugins.schedulers.fcfs import Fcfs


def make_engine(*, started: float = 0.0) -> Engine:
    clock = VirtualClock()
    clock.advance(started)
    group = KVGroup(layers=(0,), kv_heads=1, head_dim=8, window=None)
    info = ModelInfo(name="script", vocab_size=100, max_tokens=64, eos_token_ids=())
    executor = ScriptedExecutor(script=Script(vocab_size=100), info=info, kv_groups=(group,), clock=clock)
    layout = KVLayout(groups=(group,), block_size=16, num_blocks=(64,), max_tokens=64)
    executor.start(layout, max_sequences=4)
    return Engine(
        config=EngineConfig(max_sequences=4, max_step_tokens=64),
        scheduler=Fcfs(config=Fcfs.Config()),
        allocator=PagedAllocator(
            config=PagedAllocator.Config(), layout=layout, eviction=Lru(config=Lru.Config())
        ),
        layout=layout,
        executor=executor,
        clock=clock,
        info=info,
    )


def request(id: str, at: float | None = None, *, length=4, n=1, deadline=None) -> Request:
    return Request(
        id=id,
        prompt_token_ids=(1,) * length,
        sampling=SamplingParams(temperature=0.0, max_tokens=3, n=n),
        arrival_time=at,
        deadline=deadline,
    )


def records(engine: Engine, requests, **options) -> dict:
    outputs = [output for news in serve(engine, requests, **options) for output in news]
    return {output.record.request_id: output.record for output in outputs if output.record is not None}


def test_times_count_from_the_start_of_serving():
    engine = make_engine(started=100.0)
    found = records(engine, [request("a", 0.0), request("b", 2.0)])
    assert found["a"].arrival == 100.0
    assert found["b"].arrival == 102.0
    assert found["a"].first_scheduled == 100.0
    assert found["b"].first_scheduled == 102.0  # the engine slept until then


def test_arrivals_do_not_wait_for_those_before_them():
    engine = make_engine()
    found = records(engine, [request("a", 0.0), request("b", 0.005), request("c", 0.030)])
    assert all(r.first_scheduled >= r.arrival for r in found.values())
    assert found["b"].first_scheduled < found["a"].finish  # it joined the batch
    assert [found[id].arrival for id in "abc"] == [0.0, 0.005, 0.030]


def test_deadlines_move_with_arrivals():
    engine = make_engine(started=50.0)
    seen = []
    add = engine.add
    engine.add = lambda request, **how: (seen.append(request), add(request, **how))[1]
    records(engine, [request("a", 1.0, deadline=3.0), request("b", 1.0)])
    assert [(r.arrival_time, r.deadline) for r in seen] == [(51.0, 53.0), (51.0, None)]


def test_a_refused_request_comes_back_as_an_error_a_sample():
    engine = make_engine()
    outputs = [
        output
        for news in serve(
            engine, [request("a", 0.0), request("long", 0.0, length=62, n=2), request("b", 0.0)]
        )
        for output in news
    ]
    refused = [output for output in outputs if output.request_id == "long"]
    assert [output.index for output in refused] == [0, 1]
    for output in refused:
        assert output.finish_reason is FinishReason.ERROR
        assert "make 65, more than 64" in output.error
        assert (output.record.finish_reason, output.record.error) == ("error", output.error)
    ended = {output.request_id for output in outputs if output.finish_reason is FinishReason.LENGTH}
    assert ended == {"a", "b"}


def test_only_refusals_are_delivered_too():
    outputs = list(serve(make_engine(), [request("long", 1.0, length=90)]))
    assert [[output.request_id for output in news] for news in outputs] == [["long"]]


def test_an_input_is_read_no_further_than_needed():
    engine, read, ahead = make_engine(), [], []

    def requests():
        for index in range(40):
            read.append(index)
            yield request(str(index))

    done = 0
    for news in serve(engine, requests(), max_waiting=5):
        done += sum(output.finish_reason is not None for output in news)
        ahead.append(len(read) - done)
        assert engine.num_waiting <= 5
    assert done == 40
    assert max(ahead) <= 4 + 5 + 1  # running, waiting, and the one in hand


def test_nothing_to_serve_ends_at_once():
    assert list(serve(make_engine(), [])) == []


@pytest.mark.parametrize("max_waiting", [None, 1])
def test_requests_without_a_time_are_served_in_order(max_waiting):
    found = records(make_engine(), [request(str(i)) for i in range(10)], max_waiting=max_waiting)
    starts = [found[str(i)].first_scheduled for i in range(10)]
    assert starts == sorted(starts)
    assert len(found) == 10


def test_a_request_that_ended_sets_off_others_at_their_time():
    engine, ends = make_engine(started=50.0), {}

    def follow(ended, token_ids, reason, now):
        ends[ended.id] = (len(token_ids), reason, now)
        if ended.id == "a":
            yield request("b", now + 5.0)
        elif ended.id == "b":
            yield request("c", now)

    found = records(engine, [request("a", 0.0), request("z", 8.0)], follow=follow)
    assert ends.keys() == found.keys() == {"a", "b", "c", "z"}
    assert all(value[:2] == (3, FinishReason.LENGTH) for value in ends.values())
    for id, record in found.items():
        assert ends[id][2] == pytest.approx(record.finish - 50.0)
    assert found["b"].arrival == pytest.approx(found["a"].finish + 5.0)
    assert found["c"].arrival == pytest.approx(found["b"].finish)


def test_what_follows_overtakes_the_stream_if_it_comes_earlier():
    engine = make_engine()

    def follow(ended, token_ids, reason, now):
        return [request("early", 1.0)] if ended.id == "a" else []

    found = records(engine, [request("a", 0.0), request("late", 100.0)], follow=follow)
    assert found["early"].finish < found["late"].arrival == 100.0


def test_refused_requests_end_too_and_samples_end_together():
    engine, ends = make_engine(), []

    def follow(ended, token_ids, reason, now):
        ends.append((ended.id, len(token_ids), reason))
        return [request("after", now)] if ended.id == "long" else []

    records(engine, [request("long", 0.0, length=100), request("many", 0.0, n=3)], follow=follow)
    assert sorted(ends) == sorted(
        [
            ("long", 0, FinishReason.ERROR),
            ("many", 3, FinishReason.LENGTH),
            ("after", 3, FinishReason.LENGTH),
        ]
    )


def test_a_sleep_until_an_arrival_ends_there_whatever_the_rounding():
    """(origin + t) - origin may be less than t: time would stand still for ever on a virtual clock."""
    origin, arrival = 0.495, 0.449
    assert (origin + arrival) - origin < arrival
    assert records(make_engine(started=origin), [request("a", arrival)])["a"].finish is not None
