"""Defects that were, each with what it did."""

import gc
import weakref

import pytest
import torch
from checkpoints import make_checkpoint

from quire.config.compose import compose
from quire.engine.request import Request, SamplingParams
from quire.engine.sequence import FinishReason
from quire.errors import MissingCapability, RequestRefused, UserError
from quire.interfaces import KVGeometry
from quire.jobs.feed import serve
from quire.registry import load_registry
from quire.run import Run
from quire.testing import Arrival, Rehearsal, make_layout
from quire_plugins.allocators.paged import PagedAllocator, PagedConfig
from quire_plugins.attention.paged import PagedAttention
from quire_plugins.eviction.lru import Lru, LruConfig
from quire_plugins.schedulers.fcfs import Fcfs, FcfsConfig


def rehearsal(*, blocks=50, eviction=None):
    layout = make_layout(blocks)
    eviction = Lru(config=LruConfig()) if eviction is None else eviction
    return Rehearsal(
        scheduler=Fcfs(config=FcfsConfig()),
        layout=layout,
        allocator=PagedAllocator(config=PagedConfig(), layout=layout, eviction=eviction),
    )


def request(id, prompt=(1, 2, 3, 4, 5), **sampling):
    sampling.setdefault("max_tokens", 8)
    return Request(id=id, prompt_token_ids=tuple(prompt), sampling=SamplingParams(**sampling))


@pytest.mark.parametrize("order", [("a", "a/1"), ("a/1", "a")])
def test_a_request_named_as_anothers_sample_is_refused_while_that_one_is_served(order):
    """Two sequences of one name: a policy met the second as the first, and the engine broke."""
    engine = rehearsal().engine
    samples = {"a": 2, "a/1": 1}
    first, second = (request(name, n=samples[name]) for name in order)
    engine.add(first)
    engine.add(request("b", n=2))
    with pytest.raises(RequestRefused, match="'a/1' names a sample of another request"):
        engine.add(second)
    while engine.has_work:
        engine.step()
    engine.add(second)


def test_an_eviction_policy_sees_the_queues_as_they_are():
    """It was bound to a view from before the first request: nobody ever ran, and time stood still."""

    class Watcher(Lru):
        def bind(self, queues, match):
            self.queues = queues
            self.seen = []

        def victim(self, group):
            self.seen.append((len(self.queues.waiting), len(self.queues.running), self.queues.now))
            return super().victim(group)

    watcher = Watcher(config=LruConfig())
    crowded = rehearsal(blocks=8, eviction=watcher)
    crowded.run([Arrival(request=request(f"r{i}", [i] * 9, max_tokens=6), step=i) for i in range(8)])
    waiting, running, times = zip(*watcher.seen, strict=True)
    assert max(waiting) > 0
    assert max(running) > 0
    assert list(times) == sorted(times)
    assert times[0] < times[-1]


def test_an_interrupt_while_a_step_is_awaited_loses_nothing(monkeypatch):
    """The step under way was forgotten: its tokens never came and its sequences never went on."""
    calm, interrupted = rehearsal(), rehearsal()
    collect, calls = interrupted.executor.collect, iter(range(100))

    def interrupting():
        if next(calls) in (0, 3, 4):
            raise KeyboardInterrupt
        return collect()

    monkeypatch.setattr(interrupted.executor, "collect", interrupting)
    outputs = []
    for engine in (calm.engine, interrupted.engine):
        engine.add(request("a", n=2))
        made = []
        while engine.has_work:
            try:
                made += [(output.index, output.token_ids) for output in engine.step()]
            except KeyboardInterrupt:
                made.append("interrupt")
        outputs.append(made)
    assert outputs[1].count("interrupt") == 3
    assert [each for each in outputs[1] if each != "interrupt"] == outputs[0]


def test_stop_strings_without_a_tokenizer_are_refused():
    """They were accepted and never looked for."""
    with pytest.raises(RequestRefused, match=r"'a': stop=\('x',\): this engine has no tokenizer"):
        rehearsal().engine.add(request("a", stop=("x",)))


def test_a_minimum_of_tokens_that_can_never_be_reached_is_refused():
    """It was served as far as memory went, and ended short of what was asked."""
    engine = rehearsal(blocks=10).engine
    assert engine.max_model_tokens == 40
    with pytest.raises(RequestRefused, match="prompt of 5 and output of 36 tokens make 41, more than 40"):
        engine.add(request("a", max_tokens=None, min_tokens=36))
    engine.add(request("a", max_tokens=None, min_tokens=35))


def test_heads_that_the_kernels_lack_are_a_missing_capability():
    """A traceback."""
    attention = PagedAttention(config=PagedAttention.Config(), device="cpu")
    geometry = KVGeometry(num_blocks=2, kv_heads=1, block_size=16, head_dim=10, dtype=torch.float32)
    with pytest.raises(
        MissingCapability, match=r"attention=paged: head_dim is 10; .*; attention=sdpa takes any"
    ):
        attention.kv_cache_spec(geometry)


@pytest.fixture(scope="module")
def make_engine(tmp_path_factory):
    path = tmp_path_factory.mktemp("qwen2")
    torch.set_num_threads(1)
    make_checkpoint("qwen2", path)
    registry = load_registry()
    engines = []

    def make(*overrides):
        config = compose(
            [f"model={path}", "dtype=float32", "device=cpu", "engine.threads=1", *overrides], registry
        )
        engines.append(Run(config=config, registry=registry, directory=path).engine(with_text=False))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_parameters_that_bar_every_token_fail_their_request_alone(make_engine, temperature):
    """`min_tokens` bars the end, `allowed_token_ids` all else: a token that was barred came out."""
    engine = make_engine()
    barred = request(
        "barred", allowed_token_ids=engine.info.eos_token_ids, min_tokens=3, temperature=temperature
    )
    last = {
        output.request_id: output
        for outputs in serve(engine, [barred, request("other", logprobs=1, ignore_eos=True)])
        for output in outputs
    }
    assert last["barred"].finish_reason is FinishReason.ERROR
    assert last["barred"].error == "barred: at position 5 its parameters bar every token"
    assert last["other"].finish_reason is FinishReason.LENGTH


def test_a_closed_engine_gives_its_kv_memory_back(make_engine):
    """It kept it for as long as anyone kept the engine."""
    engine = make_engine("engine.kv_bytes=1MiB")
    caches = [weakref.ref(cache.k) for cache in engine._executor._runner._caches]
    assert all(cache() is not None for cache in caches)
    engine.close()
    engine.close()
    gc.collect()
    assert all(cache() is None for cache in caches)


def test_memory_that_cannot_be_had_is_a_users_error_with_the_numbers(make_engine):
    """A traceback."""
    with pytest.raises(UserError, match=r"engine\.max_sequences=4000000000 of 512 tokens, cannot be had"):
        make_engine("engine.max_sequences=4000000000", "engine.kv_bytes=1MiB")


def test_tokens_never_written_are_in_the_vocabulary(make_engine):
    """The next step's rows of a sequence whose step failed read such, and an id of chance broke it."""
    slots = make_engine("engine.kv_bytes=1MiB")._executor._runner._slots
    assert not slots.tokens.any()


def test_a_sequence_that_ends_while_it_waits_is_forgotten_by_the_allocator_too():
    """Only running ones were freed: what was remembered of a waiting one's prefix stayed for ever."""

    class Recalling(PagedAllocator):
        freed = ()

        def free(self, seq):
            self.freed += (seq.id,)
            super().free(seq)

    layout = make_layout(50)
    allocator = Recalling(config=PagedConfig(), layout=layout, eviction=Lru(config=LruConfig()))
    engine = Rehearsal(scheduler=Fcfs(config=FcfsConfig()), layout=layout, allocator=allocator).engine
    engine.add(request("waits"))
    engine.abort("waits")
    assert allocator.freed == ("waits",)
