"""Each suite fails for plugins that break the contract in one point: a suite that passes means something."""

import math
import random
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from complaints import complaint
from hypothesis import Phase, settings

from quire.engine.request import SamplingParams
from quire.interfaces import KVAllocator, KVLayout, LogitsProcessor, PrefixHit, Sampler
from quire.scheduling import add_or_preempt
from quire.testing import (
    AllocatorSuite,
    AttentionSuite,
    EvictionSuite,
    LogitsProcessorSuite,
    NaiveAllocator,
    SamplerSuite,
    SchedulerSuite,
)
from quire_plugins.allocators.paged import PagedAllocator, PagedConfig
from quire_plugins.attention.sdpa import SdpaAttention, SdpaConfig
from quire_plugins.eviction.lru import Lru, LruConfig
from quire_plugins.logits_processors.logit_bias import LogitBias, LogitBiasConfig
from quire_plugins.samplers.standard import StandardSampler, StandardSamplerConfig
from quire_plugins.schedulers.fcfs import Fcfs, FcfsConfig


@pytest.fixture(autouse=True)
def without_shrinking() -> Iterator[None]:
    """That a suite fails is all that counts here, not how simply."""
    before = settings.get_current_profile_name()
    settings.register_profile("without_shrinking", phases=[Phase.generate])
    settings.load_profile("without_shrinking")
    yield
    settings.load_profile(before)


class HandsOutTwice(NaiveAllocator):
    def grow(self, seq, num_tokens, hit=None):
        before = [list(free) for free in self._free]
        grown = super().grow(seq, num_tokens, hit)
        self._free = before
        return grown


class Leaks(NaiveAllocator):
    def free(self, seq):
        if len(self._tables.get(seq.id, [[]])[0]) > 1:
            self._tables[seq.id][0].pop()
        super().free(seq)


class TakesWhatItRefuses(NaiveAllocator):
    def grow(self, seq, num_tokens, hit=None):
        return any(super(TakesWhatItRefuses, self).grow(seq, n) and n == num_tokens for n in (1, num_tokens))


class Miscounts(NaiveAllocator):
    def stats(self):
        return replace(super().stats(), free=0)


class FitsAnything(NaiveAllocator):
    def fits(self, num_tokens):
        return True


class Paged(PagedAllocator):
    def __init__(self, layout: KVLayout) -> None:
        super().__init__(config=PagedConfig(), layout=layout, eviction=Lru(config=LruConfig()))


class PublishesEarly(Paged):
    def grow(self, seq, num_tokens, hit=None):
        grown = super().grow(seq, num_tokens, hit)
        if grown:
            self.commit(seq, min(num_tokens, len(seq.token_ids)))
        return grown


class MatchesEverything(Paged):
    def match(self, seq):
        _, holding = next(iter(self._tables), (None, None))
        if holding is not None and seq.num_tokens > self._layout.block_size:
            blocks = tuple(tuple(table[:1]) for table in holding.tables)
            return PrefixHit(num_tokens=self._layout.block_size, blocks=blocks)
        return super().match(seq)


class MatchesToTheEnd(Paged):
    def match(self, seq):
        limit = len(seq.token_ids) // self._layout.block_size
        return self._index.longest(self._search(seq), seq.token_ids, limit)


class ForgetsWindow(Paged):
    def __init__(self, layout: KVLayout) -> None:
        super().__init__(layout)
        shorter = tuple(window and max(1, window - 1) for window in self._windows)
        self._windows = self._tables._windows = shorter


class SharesUnfinishedBlocks(Paged):
    def fork(self, parent, child):
        shared = super().fork(parent, child)
        if shared + self._layout.block_size < child.num_tokens and shared:
            holding, donor = self._tables.get(child.order), self._tables.get(parent.order)
            for pool, table, source in zip(self._pools, holding.tables, donor.tables, strict=True):
                block = source[len(table)] if len(source) > len(table) else None
                if block is None:
                    return shared
                pool.share(block)
                table.append(block)
            holding.capacity = holding.tokens = shared = shared + self._layout.block_size
        return shared

    def check_integrity(self):
        """Left out, so that only what the suite sees for itself can tell."""


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (HandsOutTwice, "held twice|holds too|sees"),
        (Leaks, "leaked"),
        (TakesWhatItRefuses, "a refused grow changed"),
        (Miscounts, "not conserved"),
        (FitsAnything, "cannot start|never comes to its end"),
        (PublishesEarly, "shows .*computed=False"),
        (MatchesEverything, "shows"),
        (MatchesToTheEnd, "leaves nothing to compute|must be computed in whole"),
        (ForgetsWindow, "sees"),
        (SharesUnfinishedBlocks, "fork shares|which .* holds too|sees"),
    ],
)
def test_allocator_suite(broken: type, says: str) -> None:
    class Suite(AllocatorSuite):
        def make(self, layout: KVLayout) -> KVAllocator:
            return broken(layout=layout)

    assert re.search(says, complaint(Suite(), "test_random_histories"))


class Thrashes(Fcfs):
    def schedule(self, queues, step):
        running = list(queues.running)
        super().schedule(queues, step)
        if running and len(step) > 1:
            step.preempt(running[0])


class DoesNothing(Fcfs):
    def schedule(self, queues, step):
        pass


class ForgetsTheLast(Fcfs):
    """Whoever is alone in the waiting queue waits on."""

    def schedule(self, queues, step):
        for seq in queues.running:
            add_or_preempt(seq, queues, step)
        for seq in list(queues.waiting)[1:]:
            if not step.add(seq):
                break


class Meddles(Fcfs):
    def schedule(self, queues, step):
        for seq in queues.running:
            seq._sequence.num_computed = 0
        super().schedule(queues, step)


class SetsPriority(Fcfs):
    def schedule(self, queues, step):
        for seq in queues.waiting:
            seq.priority = 0
        super().schedule(queues, step)


class ThrowsDice(Fcfs):
    def schedule(self, queues, step):
        for seq in queues.running:
            add_or_preempt(seq, queues, step)
        for seq in queues.waiting:
            if not step.add(seq, random.SystemRandom().randint(1, 10)):
                break


class AddsTwice(Fcfs):
    def schedule(self, queues, step):
        super().schedule(queues, step)
        for seq in queues.running:
            if seq in step:
                step.add(seq)


class Rejects(Fcfs):
    def schedule(self, queues, step):
        super().schedule(queues, step)
        for seq in list(queues.waiting)[1:]:
            if seq not in step:
                step.reject(seq, "too many wait")


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (Thrashes, "a livelock"),
        (DoesNothing, "SchedulerStuck"),
        (ForgetsTheLast, "SchedulerStuck"),
        (Meddles, "changed"),
        (SetsPriority, "AttributeError"),
        (ThrowsDice, "test_the_same_is_decided_again"),
        (AddsTwice, "in this step already"),
        (Rejects, "too many wait"),
    ],
)
def test_scheduler_suite(broken: type, says: str) -> None:
    class Suite(SchedulerSuite):
        def make(self):
            return broken(config=FcfsConfig())

    assert re.search(says, complaint(Suite()))


def test_a_lying_allocator_is_seen_through_by_the_scripted_executor() -> None:
    class Suite(SchedulerSuite):
        def make(self):
            return Fcfs(config=FcfsConfig())

        def make_allocator(self, layout: KVLayout) -> KVAllocator:
            return MatchesEverything(layout)

    assert "sees foreign tokens" in complaint(Suite())


class NeverRemoves(Lru):
    def remove(self, block):
        pass


class MixesGroups(Lru):
    def victim(self, group):
        return next(block for queue in self._queues.values() for block in queue.values())


@pytest.mark.parametrize("broken", [NeverRemoves, MixesGroups])
def test_eviction_suite(broken: type) -> None:
    class Suite(EvictionSuite):
        def make(self):
            return broken(config=LruConfig())

    assert "Error" in complaint(Suite())


class StoresNothing(SdpaAttention):
    def forward(self, layer, q_THD, k_TKD, v_TKD, cache, batch, metadata, out_THD):
        keep = cache.k.clone(), cache.v.clone()
        super().forward(layer, q_THD, k_TKD, v_TKD, cache, batch, metadata, out_THD)
        cache.k.copy_(keep[0])
        cache.v.copy_(keep[1])


class ReadsTooFar(SdpaAttention):
    def prepare(self, batch, layers):
        return super().prepare(batch, tuple(replace(each, window=_wider(each.window)) for each in layers))


class SeesTooLittle(SdpaAttention):
    def prepare(self, batch, layers):
        narrower = (replace(each, window=each.window and max(1, each.window - 1)) for each in layers)
        return super().prepare(batch, tuple(narrower))


class IgnoresSoftcap(SdpaAttention):
    def forward(self, layer, *rest):
        super().forward(replace(layer, softcap=None), *rest)


class IgnoresSinks(SdpaAttention):
    def forward(self, layer, *rest):
        super().forward(replace(layer, sinks_H=None), *rest)


class MixesHeads(SdpaAttention):
    def forward(self, layer, q_THD, k_TKD, v_TKD, cache, batch, metadata, out_THD):
        super().forward(layer, q_THD, k_TKD.flip(1), v_TKD.flip(1), cache, batch, metadata, out_THD)


class ForgetsTheSharedKey(SdpaAttention):
    def forward_latent(self, layer, q_THW, *rest):
        q_THW = q_THW.clone()
        q_THW[..., layer.latent_dim :] = 0
        super().forward_latent(layer, q_THW, *rest)


def _wider(window: int | None) -> int | None:
    return None if window is None else window + 1


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (StoresNothing, "inf"),
        (ReadsTooFar, "window"),
        (SeesTooLittle, "window"),
        (IgnoresSoftcap, "softcap"),
        (IgnoresSinks, "sinks"),
        (MixesHeads, "heads"),
        (ForgetsTheSharedKey, "latent_dim=64"),
    ],
)
def test_attention_suite(broken: type, says: str) -> None:
    class Suite(AttentionSuite):
        def make(self):
            return broken(config=SdpaConfig(), device=self.device)

    assert re.search(says, complaint(Suite()))


class DrawsFromTheGlobalGenerator(StandardSampler):
    def sample(self, logits_RV, rows):
        return torch.multinomial(logits_RV.softmax(dim=-1), 1)[:, 0]


class SeedsByRow(StandardSampler):
    def sample(self, logits_RV, rows):
        return super().sample(logits_RV, replace(rows, seeds=tuple(range(len(rows.seeds)))))


class ForgetsPosition(StandardSampler):
    def sample(self, logits_RV, rows):
        return super().sample(logits_RV, replace(rows, positions=(1,) * len(rows.positions)))


class ForgetsTemperature(StandardSampler):
    def sample(self, logits_RV, rows):
        params = tuple(p if p.temperature == 0 else replace(p, temperature=1.0) for p in rows.params)
        return super().sample(logits_RV, replace(rows, params=params))


class KeepsOneMore(StandardSampler):
    def sample(self, logits_RV, rows):
        params = tuple(p if p.top_k is None else replace(p, top_k=p.top_k + 1) for p in rows.params)
        return super().sample(logits_RV, replace(rows, params=params))


class NeverGreedy(StandardSampler):
    def sample(self, logits_RV, rows):
        params = tuple(replace(p, temperature=p.temperature or 1.0) for p in rows.params)
        return super().sample(logits_RV, replace(rows, params=params))


@pytest.mark.parametrize(
    "broken",
    [
        DrawsFromTheGlobalGenerator,
        SeedsByRow,
        ForgetsPosition,
        ForgetsTemperature,
        KeepsOneMore,
        NeverGreedy,
    ],
)
def test_sampler_suite(broken: type) -> None:
    class Suite(SamplerSuite):
        def make(self) -> Sampler:
            return broken(config=StandardSamplerConfig())

    assert "AssertionError" in complaint(Suite())


class WantsAll(LogitBias):
    def wants(self, params):
        return True


class DoesNotBias(LogitBias):
    def apply(self, logits_RV, rows):
        pass


class TakesTheFirstRowsParameters(LogitBias):
    def apply(self, logits_RV, rows):
        super().apply(logits_RV, replace(rows, params=rows.params[:1] * len(rows.params)))


class LeavesNothing(LogitBias):
    def apply(self, logits_RV, rows):
        logits_RV.fill_(-math.inf)


class RewritesHistory(LogitBias):
    def apply(self, logits_RV, rows):
        super().apply(logits_RV, rows)
        rows.history[0][:] = 0
        rows.history[0][0] = 9


@pytest.mark.parametrize(
    "broken", [WantsAll, DoesNotBias, TakesTheFirstRowsParameters, LeavesNothing, RewritesHistory]
)
def test_logits_processor_suite(broken: type) -> None:
    class Suite(LogitsProcessorSuite):
        wanted = (SamplingParams(logit_bias={3: 1.0}), SamplingParams(logit_bias={4: -1.0}))

        def make(self) -> LogitsProcessor:
            return broken(config=LogitBiasConfig())

    assert "AssertionError" in complaint(Suite())
