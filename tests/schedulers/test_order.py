"""Who runs before whom, where a policy promises an order."""

import pytest

from quire.engine.config import EngineConfig
from quire.engine.request import Request, SamplingParams
from quire.interfaces import Scheduler
from quire.testing import Arrival, Rehearsal, make_layout
from quire_plugins.allocators.paged import PagedAllocator, PagedConfig
from quire_plugins.eviction.lru import Lru, LruConfig
from quire_plugins.schedulers.fcfs import Fcfs, FcfsConfig
from quire_plugins.schedulers.sarathi import Sarathi, SarathiConfig
from quire_plugins.schedulers.static import Static, StaticConfig


class Recorder(Scheduler):
    """Notes of each step who was preempted and who came in, by order of arrival."""

    def __init__(self, scheduler):
        self.steps = []
        self._scheduler = scheduler

    def schedule(self, queues, step):
        before = [*queues.running]
        self._scheduler.schedule(queues, step)
        gone = [seq.order for seq in before if seq not in queues.running]
        self.steps.append((gone, [seq.order for seq in queues.waiting if seq in step]))

    def on_finish(self, seq):
        self._scheduler.on_finish(seq)


@pytest.mark.parametrize("make", [lambda: Fcfs(config=FcfsConfig()), lambda: Sarathi(config=SarathiConfig())])
def test_nobody_takes_the_memory_of_one_that_gave_way_to_an_earlier(make):
    recorder = Recorder(make())
    rehearsal = Rehearsal(scheduler=recorder, layout=make_layout(8))
    rehearsal.run(
        [
            Arrival(
                request=Request(
                    id=f"r{i}",
                    prompt_token_ids=(i,) * (3 if i % 2 else 13),
                    sampling=SamplingParams(max_tokens=12),
                )
            )
            for i in range(8)
        ]
    )
    rehearsal.check_outputs()
    assert any(gone for gone, _ in recorder.steps)
    assert not any(gone and came for gone, came in recorder.steps)


@pytest.mark.parametrize("overlap", [False, True])
def test_a_static_batch_lasts_until_its_last_forked_sample_ends(overlap):
    layout = make_layout(200)
    recorder = Recorder(Static(config=StaticConfig(batch_size=1)))
    rehearsal = Rehearsal(
        scheduler=recorder,
        layout=layout,
        allocator=PagedAllocator(config=PagedConfig(), layout=layout, eviction=Lru(config=LruConfig())),
        config=EngineConfig(overlap=overlap),
    )
    ends = SamplingParams(n=4, max_tokens=30, stop_token_ids=(1, 2, 3, 4))
    rehearsal.run(
        [
            Arrival(request=Request(id="many", prompt_token_ids=(1, 2, 3, 4, 5), sampling=ends)),
            Arrival(
                request=Request(id="next", prompt_token_ids=(6, 7), sampling=SamplingParams(max_tokens=3))
            ),
        ]
    )
    rehearsal.check_outputs()
    lengths = [len(rehearsal.samples["many", index].tokens) for index in range(4)]
    assert lengths[0] < max(lengths), "the first sample must end before another"
    plans = [[row.sequence_id for row in plan.rows] for plan in rehearsal.executor.plans]
    began = next(index for index, rows in enumerate(plans) if "next" in rows)
    assert not any(name.startswith("many") for rows in plans[began:] for name in rows)
