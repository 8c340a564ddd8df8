"""Every policy keeps its contract, and gives up what a plain rendering of its paper gives up."""

from itertools import count

import pytest
from hypothesis import given, settings
from naive import histories, play

from quire.config.compose import compose
from quire.engine.queues import QueueView, RunningView, SequenceQueue, WaitingView
from quire.engine.request import Request, SamplingParams
from quire.errors import UserError
from quire.interfaces import CachedBlock, EvictionPolicy, PrefixHit
from quire.registry import load_registry
from quire.run import Run
from quire.testing import Arrival, EvictionSuite, Rehearsal, make_layout, make_sequence
from quire_plugins.allocators.paged import PagedAllocator, PagedConfig
from quire_plugins.eviction.arc import Arc, ArcConfig
from quire_plugins.eviction.cost_aware import CostAware, CostAwareConfig
from quire_plugins.eviction.fifo import Fifo, FifoConfig
from quire_plugins.eviction.lfu import Lfu, LfuConfig
from quire_plugins.eviction.lru import Lru, LruConfig
from quire_plugins.eviction.queue_aware import QueueAware, QueueAwareConfig
from quire_plugins.schedulers.fcfs import Fcfs, FcfsConfig

REGISTRY = load_registry()
thoroughly = settings(max_examples=300, derandomize=True, database=None, deadline=None)


class TestFifo(EvictionSuite):
    def make(self) -> EvictionPolicy:
        return Fifo(config=FifoConfig())


class TestLfu(EvictionSuite):
    def make(self) -> EvictionPolicy:
        return Lfu(config=LfuConfig())


class TestArc(EvictionSuite):
    def make(self) -> EvictionPolicy:
        return Arc(config=ArcConfig())


class TestCostAware(EvictionSuite):
    def make(self) -> EvictionPolicy:
        return CostAware(config=CostAwareConfig())


class TestQueueAware(EvictionSuite):
    def make(self) -> EvictionPolicy:
        return QueueAware(config=QueueAwareConfig())


def nothing(record, block) -> None:
    pass


@given(histories)
@thoroughly
def test_fifo(history):
    first_seen: dict[tuple[int, bytes], int] = {}

    def on_add(record, block):
        for name in [name for name in first_seen if name[0] == block.block and name[1] != block.key]:
            del first_seen[name]  # the block held something else meanwhile
        first_seen.setdefault((block.block, block.key), len(record.evicted) * 1000 + block.last_use)

    def oldest(record):
        return min(record.evictable, key=lambda block: first_seen[block.block, block.key])

    play(Fifo(config=FifoConfig()), history, on_add=on_add, on_evict=nothing, expected=oldest)


@pytest.mark.parametrize("ageing", [0.0, 1.0])
@given(history=histories)
@thoroughly
def test_lfu(ageing, history):
    value: dict[int, float] = {}
    age = [0.0]

    def on_add(record, block):
        value[block.block] = block.hits + 1 + ageing * age[0]

    def on_evict(record, block):
        age[0] = value[block.block]

    def least(record):
        return min(record.evictable, key=lambda block: (value[block.block], block.last_use))

    play(Lfu(config=LfuConfig(ageing=ageing)), history, on_add=on_add, on_evict=on_evict, expected=least)


@given(histories)
@thoroughly
def test_arc(history):
    t1, t2, b1, b2, came_back = [], [], [], [], set()
    state = {"p": 0.0, "c": 0}

    def place(record):
        """The lists after blocks that were reused have left them."""
        for blocks in (t1, t2):
            blocks[:] = [block for block in blocks if block in record.evictable]

    def trim():
        while b1 and len(t1) + len(b1) > state["c"]:
            b1.pop(0)
        while b2 and len(t1) + len(t2) + len(b1) + len(b2) > 2 * state["c"]:
            b2.pop(0)

    def on_add(record, block):
        place(record)
        if block.key in b1:
            state["p"] = min(state["c"], state["p"] + max(1, len(b2) / len(b1)))
            b1.remove(block.key)
            came_back.add(id(block))
        elif block.key in b2:
            state["p"] = max(0, state["p"] - max(1, len(b1) / len(b2)))
            b2.remove(block.key)
            came_back.add(id(block))
        (t2 if block.hits or id(block) in came_back else t1).append(block)
        state["c"] = max(state["c"], len(t1) + len(t2))
        trim()

    def on_evict(record, block):
        place(record)
        for blocks, ghosts in ((t1, b1), (t2, b2)):
            if block in blocks:
                blocks.remove(block)
                ghosts.append(block.key)
        trim()

    def replaced(record):
        place(record)
        return t1[0] if t1 and (not t2 or len(t1) > state["p"]) else t2[0]

    policy = Arc(config=ArcConfig())
    play(policy, history, on_add=on_add, on_evict=on_evict, expected=replaced)
    lists = policy._lists[0]
    assert len(lists.t1) + len(lists.b1) <= lists.size
    assert len(lists.t1) + len(lists.t2) + len(lists.b1) + len(lists.b2) <= 2 * lists.size


@given(histories)
@thoroughly
def test_cost_aware(history):
    worth: dict[int, float] = {}
    age = [0.0]

    def on_add(record, block):
        costs = [1 + 0.5 * depth for depth in range(block.depth + 1)]
        worth[block.block] = age[0] + (1 + block.hits) * sum(costs) / len(costs)

    def on_evict(record, block):
        age[0] = max(age[0], worth[block.block])

    def cheapest_tail(record):
        parents = {block.parent for block in record.evictable}
        tails = [block for block in record.evictable if block.key not in parents]
        return min(tails, key=lambda block: (worth[block.block], block.last_use))

    config = CostAwareConfig(depth_cost=0.5)
    play(CostAware(config=config), history, on_add=on_add, on_evict=on_evict, expected=cheapest_tail)


def release_prefix(policy, name, blocks, clock):
    """A sequence that used `blocks` new blocks ends: they become evictable, the last one first."""
    keys = [bytes([name, depth]) for depth in range(blocks)]
    for depth in reversed(range(blocks)):
        parent = keys[depth - 1] if depth else None
        number, now = 16 * name + depth, next(clock)
        policy.add(
            CachedBlock(group=0, block=number, key=keys[depth], depth=depth, parent=parent, last_use=now)
        )


def give_up(policy):
    """The name and depth of the next victim."""
    victim = policy.victim(0)
    policy.remove(victim)
    return tuple(victim.key)


def test_cost_aware_keeps_a_prefix_as_long_as_its_mean_cost_says():
    """A block of the long prefix costs 4.5 on average, one of a short prefix 1.5: a third as much."""
    policy, clock = CostAware(config=CostAwareConfig(depth_cost=1.0)), count(1)
    long, *shorts = range(4)
    release_prefix(policy, long, 8, clock)
    for short in shorts[:2]:
        release_prefix(policy, short, 2, clock)
        assert [give_up(policy) for _ in range(2)] == [(short, 1), (short, 0)]
    release_prefix(policy, shorts[2], 2, clock)
    assert [give_up(policy) for _ in range(8)] == [(long, depth) for depth in reversed(range(8))]


def test_cost_aware_is_lru_where_depth_costs_nothing_and_nothing_is_used_again():
    policies = CostAware(config=CostAwareConfig(depth_cost=0.0)), Lru(config=LruConfig())
    victims = []
    for policy in policies:
        clock, given_up = count(1), []
        for name, blocks in enumerate((3, 9, 1, 5, 9, 2)):
            release_prefix(policy, name, blocks, clock)
            given_up += [give_up(policy) for _ in range(min(4, len(policy)))]
        victims.append(given_up + [give_up(policy) for _ in range(len(policy))])
    assert victims[0] == victims[1]


@given(history=histories)
@thoroughly
def test_queue_aware(history):
    """Sequence i of three waits for the blocks whose content is i modulo 4, which may change every time."""
    waiting, record_now = SequenceQueue(), []
    for order in range(3):
        waiting.add(make_sequence([order], order=order))
    queues = QueueView(waiting=WaitingView(waiting), running=RunningView([]), now=0.0)

    def match(seq):
        blocks = tuple(block.block for block in record_now[-1].evictable if block.key[0] % 4 == seq.order)
        return PrefixHit(num_tokens=len(blocks), blocks=(blocks,))

    def last_needed(record):
        record_now.append(record)
        queues._refresh(running=RunningView([]), now=0.0)
        open_blocks = [block for block in record.evictable if block.key[0] % 4 == 3]
        if open_blocks:
            return min(open_blocks, key=lambda block: block.last_use)
        return min(record.evictable, key=lambda block: (-(block.key[0] % 4), block.last_use))

    policy = QueueAware(config=QueueAwareConfig())
    policy.bind(queues, match)
    play(policy, history, on_add=nothing, on_evict=nothing, expected=last_needed)


def test_queue_aware_looks_no_further_than_it_is_told():
    waiting = SequenceQueue()
    for order in range(2):
        waiting.add(make_sequence([order], order=order))
    policy = QueueAware(config=QueueAwareConfig(look_ahead=1))
    queues = QueueView(waiting=WaitingView(waiting), running=RunningView([]), now=0.0)
    policy.bind(queues, lambda seq: PrefixHit(num_tokens=1, blocks=((seq.order,),)))
    for number in range(2):
        policy.add(CachedBlock(group=0, block=number, key=bytes([number]), depth=0, last_use=number))
    assert policy.victim(0).block == 1, "the second in the queue is not looked at"


def test_queue_aware_saves_a_prefix_that_lru_gives_up():
    """A prefix that somebody waits for, and another that was used later but that nobody wants."""
    hits = {}
    for name in ("lru", "queue_aware"):
        eviction = REGISTRY.get("eviction", name)
        eviction = eviction(config=eviction.Config())
        layout = make_layout(8)
        allocator = PagedAllocator(config=PagedConfig(), layout=layout, eviction=eviction)
        rehearsal = Rehearsal(
            scheduler=Fcfs(config=FcfsConfig()), layout=layout, allocator=allocator, vocab_size=64
        )

        def request(name, prompt):
            return Request(id=name, prompt_token_ids=tuple(prompt), sampling=SamplingParams(max_tokens=1))

        wanted, unwanted, large = range(13), range(20, 32), range(40, 55)
        rehearsal.run(
            [
                Arrival(request=request("a", wanted), step=0),
                Arrival(request=request("b", unwanted), step=4),
                Arrival(request=request("c", large), step=8),
                Arrival(request=request("d", wanted), step=8),
            ]
        )
        rehearsal.check_outputs()
        hits[name] = allocator.stats().prefix_hits
    assert hits == {"lru": 4, "queue_aware": 12}, "lru gives up two of the three blocks, tail first"


@pytest.mark.parametrize("name", REGISTRY.names("eviction"))
@pytest.mark.parametrize("allocator", ["paged", "radix"])
def test_every_policy_by_its_name(name, allocator, tmp_path):
    overrides = [
        f"eviction={name}", f"allocator={allocator}", "attention=sdpa", "ops=torch", "engine.block_size=16",
        "engine.kv_bytes=400KiB", "device=cpu",
    ]  # fmt: skip
    run = Run(config=compose(overrides, REGISTRY), registry=REGISTRY, directory=tmp_path)
    engine = run.engine(with_text=False)
    assert type(engine.allocator._eviction) is REGISTRY.get("eviction", name)
    prompts = [tuple(range(3, 40)), tuple(range(50, 90)), tuple(range(3, 50)), tuple(range(60, 110))]
    for index, prompt in enumerate(prompts):
        engine.add(Request(id=str(index), prompt_token_ids=prompt, sampling=SamplingParams(max_tokens=4)))
        while engine.has_work:
            for output in engine.step():
                assert output.error is None
            engine.allocator.check_integrity()
    engine.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["eviction=lfu", "eviction.ageing=2"], r"eviction.ageing=2.0: must be in \[0, 1\]"),
        (["eviction=cost_aware", "eviction.depth_cost=-1"], r"eviction.depth_cost=-1.0"),
        (["eviction=queue_aware", "eviction.look_ahead=0"], r"eviction.look_ahead=0: must be at least 1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(UserError, match=message):
        compose(options, REGISTRY)
