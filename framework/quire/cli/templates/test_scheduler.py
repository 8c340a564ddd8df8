"""`NewPlugin` keeps the contract of every scheduler, and has the idea that it should have."""

from quire.cli.templates.scheduler import NewPlugin, NewPluginConfig
from quire.engine.config import EngineConfig
from quire.engine.request import Request, SamplingParams
from quire.interfaces import Scheduler
from quire.testing import Arrival, Rehearsal, SchedulerSuite, make_layout


class TestContract(SchedulerSuite):
    def make(self) -> Scheduler:
        return NewPlugin(config=NewPluginConfig())


def order_of_starts(aging: float) -> list[str]:
    """Where one sequence runs at a time: who arrives later is more urgent."""
    rehearsal = Rehearsal(
        scheduler=NewPlugin(config=NewPluginConfig(aging=aging)),
        layout=make_layout(32),
        config=EngineConfig(max_sequences=1, overlap=False),
    )
    sampling = SamplingParams(temperature=0.0, max_tokens=4)
    rehearsal.run(
        [
            Arrival(
                request=Request(id=name, prompt_token_ids=(1, 2, 3), sampling=sampling, priority=priority),
                step=step,
            )
            for step, (name, priority) in enumerate({"first": 5, "second": 4, "third": 3}.items())
        ]
    )
    return list(dict.fromkeys(row.sequence_id for plan in rehearsal.executor.plans for row in plan.rows))


def test_the_most_urgent_of_those_that_wait_starts_first():
    assert order_of_starts(aging=0.0) == ["first", "third", "second"]


def test_waiting_makes_more_urgent_than_any_priority():
    assert order_of_starts(aging=1e6) == ["first", "second", "third"]
