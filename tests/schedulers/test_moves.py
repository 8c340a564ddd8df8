"""`quire.scheduling`: what schedulers are made of."""

import random

import pytest
from serving import random_requests, request, served

from quire.engine.sequence import Status
from quire.interfaces import Scheduler, VictimPolicy
from quire.scheduling import RankedQueue, keep_running, serve_by_rank
from quire.testing import make_sequence
from quire_plugins.schedulers.step_time import StepTime


def test_a_ranked_queue_against_sorting():
    draw = random.Random(0)
    queue, keys, sequences = RankedQueue(), {}, [make_sequence((1,), order=order) for order in range(40)]
    for _ in range(2000):
        sequence = draw.choice(sequences)
        match draw.randrange(4):
            case 0 | 1:
                keys[sequence.order] = draw.randrange(10)
                queue.put(sequence.view, keys[sequence.order])
                assert queue.rank(sequence.view) == (keys[sequence.order], sequence.order)
            case 2:
                keys.pop(sequence.order, None)
                queue.discard(sequence.view)
            case 3:
                sequence.status = draw.choice(list(Status))
        waiting = [order for order in keys if sequences[order].status is Status.WAITING]
        assert [view.order for view in queue.waiting()] == sorted(waiting, key=lambda o: (keys[o], o))
        assert len(queue) == len(keys)
    queue.rekey(lambda view: -view.order)
    assert queue.rank(sequences[min(keys)].view) == (-min(keys), min(keys))
    assert [view.order for view in queue.waiting()] == sorted(waiting, reverse=True)


class Chooses(VictimPolicy):
    """Notes who may be chosen, and takes the first."""

    def __init__(self):
        self.asked = []

    def choose(self, candidates):
        self.asked.append([seq.id for seq in candidates])
        return candidates[0]


class Backwards(Scheduler):
    """The latest to arrive ranks first."""

    def __init__(self, *, preempt: bool):
        self._preempt = preempt
        self._living = RankedQueue()

    def on_arrival(self, seq):
        self._living.put(seq, -seq.order)

    def on_finish(self, seq):
        self._living.discard(seq)

    def schedule(self, queues, step):
        serve_by_rank(queues, step, self._living.waiting(), rank=self._living.rank, preempt=self._preempt)


def test_only_who_ranks_after_may_be_chosen_and_the_victim_policy_chooses():
    requests = [request(f"r{i}", at=0.02 * i, output=30) for i in range(4)]
    victims = Chooses()
    outcome = served(Backwards(preempt=True), requests, sequences=3, victims=victims)
    # r3 came for a place, then r2 came back for another, and so on.
    assert victims.asked == [["r2", "r1", "r0"], ["r1", "r0"], ["r0"]]
    assert outcome.records["r2"].num_preemptions == 1
    assert served(Backwards(preempt=False), requests, sequences=3).preemptions == 0


def test_whoever_ranks_first_gets_on_whatever_the_victim_policy():
    requests = [request(f"r{i}", at=0.001 * i, output=20) for i in range(6)]
    outcome = served(Backwards(preempt=True), requests, blocks=14, victims=Chooses())
    assert outcome.preemptions > 0
    assert outcome.records["r5"].num_preemptions == 0
    assert len(outcome.records) == 6


def test_keep_running_says_whether_anybody_gave_way():
    said = []

    class Keeps(Scheduler):
        def schedule(self, queues, step):
            before = len(queues.running)
            said.append((keep_running(queues, step), len(queues.running) == before))
            for seq in queues.waiting:
                if not step.add(seq):
                    break

    served(Keeps(), random_requests(0, 20, rate=100.0), blocks=40)
    assert {kept for kept, _ in said} == {True, False}
    assert all(kept == same for kept, same in said)


class TestStepTime:
    class Record:
        def __init__(self, tokens, seconds):
            self.num_tokens, self.seconds = tokens, seconds

    def test_it_finds_the_line(self):
        model, draw = StepTime(), random.Random(0)
        for _ in range(200):
            tokens = draw.randint(1, 500)
            model.observe(self.Record(tokens, 0.01 + 0.0001 * tokens))
        assert model.seconds(1000) == pytest.approx(0.11, rel=1e-6)
        assert model.tokens_within(0.06, 10_000) == pytest.approx(500, abs=1)
        assert model.tokens_within(0.06, 30) == 30
        assert model.tokens_within(0.001, 30) == 0

    def test_before_the_first_step_nothing_takes_time(self):
        assert StepTime().seconds(100) == 0.0
        assert StepTime().tokens_within(0.0, 7) == 7

    def test_steps_all_alike_say_nothing_of_tokens(self):
        model = StepTime()
        for _ in range(50):
            model.observe(self.Record(8, 0.02))
        assert model.seconds(8) == pytest.approx(0.02)
        assert 0 <= model.seconds(1) <= model.seconds(100)

    def test_it_follows_a_change(self):
        model = StepTime()
        for seconds in [0.01] * 500 + [0.05] * 500:
            model.observe(self.Record(8, seconds))
        assert model.seconds(8) == pytest.approx(0.05, rel=0.01)
