"""What a policy builds is legal by construction."""

import pytest

from quire.engine.queues import QueueView, RunningView, SequenceQueue, WaitingView
from quire.engine.records import RequestRecord
from quire.engine.request import Request, SamplingParams
from quire.engine.sequence import Sequence, Status
from quire.engine.step import Lack, StepBuilder
from quire.interfaces.allocator import KVGroup, KVLayout
from quire_plugins.allocators.paged import PagedAllocator
from quire_plugins.eviction.lru import Lru

BLOCK = 4


def sequence(order: int, prompt: int, *, computed: int = 0) -> Sequence:
    request = Request(
        id=f"r{order}",
        prompt_token_ids=tuple(range(100 * order, 100 * order + prompt)),
        sampling=SamplingParams(max_tokens=8),
    )
    record = RequestRecord(request_id=request.id, sample=0, tenant="t", arrival=0.0, num_prompt_tokens=prompt)
    return Sequence(
        id=request.id,
        request=request,
        order=order,
        arrival_time=0.0,
        index=0,
        max_tokens=8,
        output_limit=8,
        tokens=list(request.prompt_token_ids),
        num_computed=computed,
        record=record,
    )


class Desk:
    """An allocator and two queues to build a step on."""

    def __init__(self, *, blocks: int = 10) -> None:
        self.layout = layout = KVLayout(
            groups=(KVGroup(layers=(0,), kv_heads=1, head_dim=16, window=None),),
            block_size=BLOCK,
            num_blocks=(blocks,),
            max_tokens=64,
        )
        self.allocator = PagedAllocator(
            config=PagedAllocator.Config(), layout=layout, eviction=Lru(config=Lru.Config())
        )
        self.waiting, self.running = SequenceQueue(), SequenceQueue()

    def wait(self, order: int, prompt: int) -> Sequence:
        waiting = sequence(order, prompt)
        self.waiting.add(waiting)
        return waiting

    def run(self, order: int, prompt: int) -> Sequence:
        """A sequence whose prompt is computed but for its last token."""
        running = sequence(order, prompt, computed=prompt - 1)
        assert self.allocator.grow(running.view, prompt - 1)
        running.status = Status.RUNNING
        self.running.add(running)
        return running

    def step(self, *, max_tokens: int = 16, max_sequences: int = 4) -> tuple[QueueView, StepBuilder]:
        queues = QueueView(
            waiting=WaitingView(self.waiting), running=RunningView(list(self.running)), now=0.0
        )
        return queues, StepBuilder(
            queues=queues,
            allocator=self.allocator,
            layout=self.layout,
            victims=None,
            max_tokens=max_tokens,
            max_sequences=max_sequences,
            num_holding=len(self.running),
        )


def test_grants_are_cut_to_the_token_budget_and_then_lack_tokens():
    desk = Desk()
    first, second, third = desk.wait(0, 10), desk.wait(1, 10), desk.wait(2, 10)
    _, step = desk.step(max_tokens=16)
    assert step.add(first.view).tokens == 10
    assert step.add(second.view).tokens == 6
    refused = step.add(third.view)
    assert not refused
    assert refused.lack is Lack.TOKENS
    assert step.tokens_left == 0
    assert [(e.sequence.id, e.start, e.count) for e in step.seal().entries] == [("r0", 0, 10), ("r1", 0, 6)]


def test_a_chunk_is_no_larger_than_asked_for():
    desk = Desk()
    waiting = desk.wait(0, 10)
    _, step = desk.step()
    assert step.add(waiting.view, 3).tokens == 3


def test_the_sequence_budget_counts_those_who_hold_memory():
    desk = Desk()
    desk.run(0, 4)
    desk.run(1, 4)
    waiting = desk.wait(2, 4)
    _, step = desk.step(max_sequences=2)
    assert step.add(waiting.view).lack is Lack.SEQUENCES


def test_lack_of_memory_changes_nothing_and_preempting_helps():
    desk = Desk(blocks=3)
    running = desk.run(0, 8)
    waiting = desk.wait(1, 8)
    queues, step = desk.step()
    before = desk.allocator.stats()
    assert step.add(waiting.view).lacks_memory
    assert desk.allocator.stats() == before
    step.preempt(running.view)
    assert running.view not in queues.running
    assert step.add(waiting.view)
    desk.allocator.check_integrity()
    assert step.seal().preempted == (running,)


def test_preempting_a_sequence_of_the_step_gives_its_share_back():
    desk = Desk()
    running, other = desk.run(0, 4), desk.wait(1, 12)
    _, step = desk.step(max_tokens=12, max_sequences=2)
    assert step.add(other.view)
    step.preempt(other.view)
    assert step.tokens_left == 12
    assert step.sequences_left == 1
    assert step.add(running.view)
    sealed = step.seal()
    assert [e.sequence for e in sealed.entries] == [running]
    assert sealed.preempted == ()  # it never ran: it simply waits on
    desk.allocator.check_integrity()


def test_neither_twice_in_a_step_nor_back_after_preemption():
    desk = Desk()
    running, waiting = desk.run(0, 4), desk.wait(1, 4)
    _, step = desk.step()
    assert step.add(waiting.view)
    with pytest.raises(AssertionError, match="in this step already"):
        step.add(waiting.view)
    step.preempt(running.view)
    with pytest.raises(AssertionError, match="preempted or rejected"):
        step.add(running.view)


def test_preemption_takes_a_sequence_out_of_an_iteration_under_way():
    desk = Desk()
    sequences = [desk.run(order, 4) for order in range(3)]
    queues, step = desk.step()
    seen = []
    for view in queues.running:
        if not seen:
            step.preempt(sequences[1].view)
        seen.append(view.id)
    assert seen == ["r0", "r2"]
    assert queues.running.latest() is sequences[2].view


def test_waiting_sequences_stand_in_order_of_arrival():
    desk = Desk()
    for order in (2, 0, 1):
        desk.wait(order, 4)
    queues, _ = desk.step()
    assert [view.order for view in queues.waiting] == [0, 1, 2]


def test_views_cannot_be_written():
    view = sequence(0, 4).view
    for name in ("num_computed", "priority", "status", "anything"):
        with pytest.raises(AttributeError):
            setattr(view, name, 1)


def test_a_cached_prefix_is_not_charged():
    desk = Desk()
    first = desk.wait(0, 9)
    _, step = desk.step()
    assert step.add(first.view)
    desk.allocator.commit(first.view, 9)
    again = sequence(1, 9)
    again.tokens = list(first.tokens)
    desk.waiting.add(again)
    _, step = desk.step()
    assert step.cached_tokens(again.view) == 8
    assert step.add(again.view).tokens == 1
    assert step.seal().entries[0].start == 8
