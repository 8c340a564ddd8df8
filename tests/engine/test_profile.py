"""`engine.profile`: every moment of both threads belongs to a phase, and hidden time is told from exposed."""

from dataclasses import replace
from itertools import pairwise

import pytest

from quire.clock import VirtualClock
from quire.engine.config import EngineConfig
from quire.engine.engine import Engine
from quire.engine.laps import Laps
from quire.engine.profile import Profile
from quire.engine.request import Request
from quire.interfaces.scheduler import Scheduler
from quire.metrics.phases import PhaseReport, report_phases
from quire.metrics.trace import trace_events
from quire.models.model import ModelInfo
from quire.testing import make_layout
from quire.testing.naive_allocator import NaiveAllocator
from quire.testing.script import Script
from quire.testing.scripted_executor import ScriptedExecutor
from quire_plugins.schedulers.fcfs import Fcfs, FcfsConfig


class SlowScheduler(Scheduler):
    """Takes two seconds a step."""

    def __init__(self, clock):
        self._clock = clock
        self._scheduler = Fcfs(config=FcfsConfig())

    def schedule(self, queues, step):
        self._clock.advance(2.0)
        self._scheduler.schedule(queues, step)


class PhasedExecutor(ScriptedExecutor):
    """Of ten seconds a step, eight are the model's."""

    def collect(self):
        return replace(super().collect(), phases={"batch": 1.0, "forward": 7.0, "logits": 1.0, "sample": 1.0})


def serve(*, overlap: bool, profiled: bool = True, pause: float = 0.0) -> Engine:
    """Three steps of one sequence; whoever drives the engine pauses between calls."""
    layout, clock = make_layout(50), VirtualClock()
    info = ModelInfo(name="script", vocab_size=16, max_tokens=layout.max_tokens, eos_token_ids=())
    executor = PhasedExecutor(
        script=Script(vocab_size=16), info=info, kv_groups=layout.groups, clock=clock, seconds=lambda _: 10.0
    )
    executor.start(layout, max_sequences=4)
    engine = Engine(
        config=EngineConfig(overlap=overlap),
        scheduler=SlowScheduler(clock),
        allocator=NaiveAllocator(layout=layout),
        layout=layout,
        executor=executor,
        clock=clock,
        info=info,
        profile=Profile(clock.now) if profiled else None,
    )
    clock.advance(100.0)  # nothing to do
    engine.add(Request(id="a", prompt_token_ids=(1, 2, 3, 4), forced_output_tokens=3))
    while engine.has_work:
        engine.step()
        clock.advance(pause)
    return engine


def report(engine: Engine) -> PhaseReport:
    assert engine.profile is not None
    found = report_phases(engine.profile)
    assert found is not None
    return found


def shares(found: PhaseReport) -> dict[str, tuple[float, float]]:
    """Seconds of each phase that took any, and those exposed."""
    seconds = {p.name: (p.share * found.seconds, p.exposed * found.seconds) for p in found.phases}
    return {name: pytest.approx(each) for name, each in seconds.items() if each[0] > 1e-9}


def test_without_overlap_everything_but_the_model_is_exposed():
    # 2 s to schedule, then 10 s to wait, three times
    found = report(serve(overlap=False))
    assert found.seconds == pytest.approx(36.0)
    assert shares(found) == {
        "schedule": (6.0, 6.0),
        "wait": (30.0, 0.0),
        "batch": (3.0, 3.0),
        "forward": (21.0, 0.0),
        "logits": (3.0, 0.0),
        "sample": (3.0, 3.0),
    }
    assert (found.model, found.exposed) == pytest.approx((24 / 36, 12 / 36))
    assert found.hidden == pytest.approx(0.0)


def test_with_overlap_scheduling_hides_under_the_step_before():
    # scheduled at 0-2, 2-4, 12-14; computed at 2-12, 12-22, 22-32
    found = report(serve(overlap=True))
    assert found.seconds == pytest.approx(32.0)
    assert shares(found)["schedule"] == (6.0, 2.0)
    assert shares(found)["wait"] == (26.0, 0.0)
    assert (found.model, found.exposed, found.hidden) == pytest.approx((24 / 32, 8 / 32, 4 / 32))


def test_what_the_driver_does_between_steps_is_output_and_idling_is_not_counted():
    engine = serve(overlap=False, pause=3.0)
    engine.step()  # the pause after the last step has no work to wait for it
    found = report(engine)
    assert shares(found)["output"] == (6.0, 6.0)
    assert found.seconds == pytest.approx(36.0 + 6.0)


def test_times_are_those_of_a_turn():
    found = {phase.name: phase for phase in report(serve(overlap=True)).phases}
    assert found["schedule"].mean_us == pytest.approx(2e6)
    assert found["wait"].mean_us == pytest.approx(26e6 / 3)
    assert found["wait"].p99_us == pytest.approx(9.96e6)  # of 8, 8 and 10 seconds
    assert found["forward"].p99_us == pytest.approx(7e6)


@pytest.mark.parametrize("overlap", [False, True])
def test_the_trace_has_no_gaps_within_a_step_and_none_on_the_engines_thread(overlap):
    profile = serve(overlap=overlap).profile
    assert profile is not None
    events = [event for event in trace_events(profile) if event["ph"] == "X"]
    threads = [[event for event in events if event["tid"] == tid] for tid in (0, 1)]
    for before, after in pairwise(threads[0]):
        assert before["ts"] + before["dur"] == pytest.approx(after["ts"])
    assert [event["name"] for event in threads[1]] == ["batch", "forward", "logits", "sample"] * 3
    assert [event["args"] for event in threads[1][::4]] == [
        {"step": 0, "tokens": 4, "sequences": 1},
        {"step": 1, "tokens": 1, "sequences": 1},
        {"step": 2, "tokens": 1, "sequences": 1},
    ]
    starts = [event["ts"] / 1e6 - 100.0 for event in threads[1][::4]]
    assert starts == pytest.approx([2.0, 12.0, 22.0] if overlap else [2.0, 14.0, 26.0])


def test_reset_forgets_and_nothing_done_has_no_report():
    engine = serve(overlap=True)
    assert engine.profile is not None
    engine.profile.reset()
    assert report_phases(engine.profile) is None


def test_an_engine_without_a_profile_generates_the_same():
    assert serve(overlap=True, profiled=False).profile is None


def test_laps_are_summed_by_name_in_the_order_in_which_they_came():
    clock = VirtualClock()
    laps = Laps(clock.now)
    for name, seconds in (("b", 1.0), ("a", 2.0), ("b", 4.0)):
        clock.advance(seconds)
        laps.lap(name)
    assert list(laps.seconds.items()) == [("b", 5.0), ("a", 2.0)]
    assert (laps.start, laps.end) == (0.0, 7.0)
