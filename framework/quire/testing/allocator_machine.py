"""A random history of an allocator, played as an engine would, beside an oracle of what memory holds.

As in an engine with overlap, up to two steps of a sequence are under way: a token that the older one samples
counts, but nobody knows it before the step is collected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from quire.engine.sequence import Status
from quire.interfaces.allocator import KVAllocator, KVLayout, PrefixHit
from quire.testing.kv_oracle import KVOracle, Living
from quire.testing.layouts import kv_layouts
from quire.testing.sequences import make_sequence

_tokens = st.integers(0, 1)  # two token ids: prefixes collide all the time
_choices = st.integers(0, 2**16)


class AllocatorMachine(RuleBasedStateMachine):
    """Plays the engine: arrivals, chunks, decodes, commits, preemptions, forks and ends in any order."""

    def __init__(self, make: Callable[[KVLayout], KVAllocator], *, has_host_memory: bool) -> None:
        super().__init__()
        self._make = make
        self._has_host_memory = has_host_memory
        self._living: list[Living] = []
        self._order = 0

    @initialize(layout=kv_layouts(host=True))
    def start(self, layout: KVLayout) -> None:
        if not self._has_host_memory:
            layout = replace(layout, host_blocks=())
        self._layout = layout
        self._allocator = self._make(layout)
        self._oracle = KVOracle(allocator=self._allocator, layout=layout)

    # -- what may happen -----------------------------------------------------------------------------------

    @rule(
        prompt=st.lists(_tokens, min_size=1, max_size=24),
        max_tokens=st.integers(1, 12),
        like=_choices,
        common=st.integers(0, 24),
        shares=st.integers(0, 7),
    )
    def arrive(self, prompt: list[int], max_tokens: int, like: int, common: int, shares: int) -> None:
        """A request, often one that begins like another; one in eight must be computed in whole."""
        if self._living:
            prompt = self._pick(self._living, like).truth[:common] + prompt
        while prompt and not self._allocator.fits(len(prompt) + max_tokens):
            prompt.pop()
        if not prompt or len(self._living) == 6:
            return
        self._add(prompt, max_tokens=max_tokens, shares_prefixes=shares > 0)

    @precondition(lambda self: self._able)
    @rule(which=_choices, chunk=st.integers(1, 16), sampled=_tokens)
    def step(self, which: int, chunk: int, sampled: int) -> None:
        """A chunk of a prompt, or a decode; a waiting sequence is admitted by it."""
        self._step(self._pick(self._able, which), chunk, sampled)

    @precondition(lambda self: self._able)
    @rule(chunk=st.integers(1, 16), sampled=_tokens)
    def turn(self, chunk: int, sampled: int) -> None:
        """A step of everybody who can, as far as memory goes, while the step before it is collected."""
        for living in self._able:
            self._step(living, chunk, sampled)
        for living in self._computing:
            if len(living.flights) == 2:
                self._collect(living)

    @precondition(lambda self: self._computing)
    @rule(which=_choices)
    def collect(self, which: int) -> None:
        """The oldest step of a sequence has been computed."""
        self._collect(self._pick(self._computing, which))

    @precondition(lambda self: self._waiting)
    @rule(which=_choices)
    def match(self, which: int) -> None:
        """Looking for a prefix shows only what is true, and changes nothing."""
        living = self._pick(self._waiting, which)
        hit = self._match(living)
        assert self._match(living) == hit, "match gives another answer the second time"

    @precondition(lambda self: self._running)
    @rule(which=_choices)
    def preempt(self, which: int) -> None:
        self._preempt(self._pick(self._running, which))

    @precondition(lambda self: self._running and self._layout.host_blocks)
    @rule(which=_choices)
    def swap_out(self, which: int) -> None:
        """A sequence is to be kept in host memory; if it is, it goes on from what was collected of it."""
        living = self._pick(self._running, which)
        tables, before = self._oracle.tables(living), self._allocator.stats()
        if not self._allocator.swap_out(living.view):
            assert self._oracle.tables(living) == tables, "a refused swap changed the sequence's tables"
            assert self._allocator.stats() == before, "a refused swap changed memory"
            return
        kept = living.collected
        self._wait(living, swapped=True)
        hit = self._match(living)
        assert hit.num_tokens == kept, f"{living.view} had {kept} tokens when it was swapped out: {hit}"

    @precondition(lambda self: len(self._living) > 2)
    @rule(which=_choices)
    def finish(self, which: int) -> None:
        """The end of a sequence that runs, or of one that gave up waiting."""
        self._finish(self._pick(self._living, which))

    @precondition(lambda self: self._running)
    @rule(which=_choices, output_too=st.booleans(), max_tokens=st.integers(1, 6))
    def fork(self, which: int, output_too: bool, max_tokens: int) -> None:
        """Another sequence with the tokens of one that runs: of its prompt, or all known so far."""
        parent = self._pick(self._running, which)
        prompt = parent.sequence.tokens if output_too else parent.sequence.request.prompt_token_ids
        if not self._allocator.fits(len(prompt) + max_tokens):
            return
        child = self._add(prompt, max_tokens=max_tokens, shares_prefixes=True)
        shared = self._allocator.fork(parent.view, child.view)
        self._oracle.copy(self._allocator.take_copies())
        assert 0 <= shared < len(prompt), f"fork shares {shared} of {len(prompt)} tokens: one must be left"
        assert shared <= parent.sequence.num_computed, "fork shares what its parent has not computed"
        if shared:
            child.sequence.num_computed = shared
            child.collected = min(parent.collected, shared)
            child.sequence.status = Status.RUNNING

    @precondition(lambda self: self._running)
    @rule(which=_choices)
    def truncate(self, which: int) -> None:
        """Room beyond what is computed is not needed at present."""
        living = self._pick(self._running, which)
        self._allocator.truncate(living.view, living.sequence.num_computed)

    @precondition(lambda self: self._allocator.stats().cached > 3)
    @rule()
    def reset_cache(self) -> None:
        """What nobody holds is forgotten."""
        self._allocator.reset_cache()
        assert self._allocator.stats().cached == 0, "blocks are cached after reset_cache"

    @precondition(lambda self: len(self._living) > 3)
    @rule(which=_choices, chunk=st.integers(1, 16), sampled=_tokens)
    def run_alone(self, which: int, chunk: int, sampled: int) -> None:
        """Whoever fits can be brought to its end when all others give way: else an engine could livelock."""
        living = self._pick(self._living, which)
        for other in [other for other in self._running if other is not living]:
            self._preempt(other)
        restarts = 0
        while not living.sequence.will_reach_limit:
            if not self._step(living, chunk, sampled):
                assert living.running, f"{living.view} cannot start, alone: {self._allocator.stats()}"
                restarts += 1
                assert restarts < 20, f"{living.view} never comes to its end, alone in memory"
                self._preempt(living)
                anew = self._step(living, len(living.truth), sampled)
                assert anew, f"{living.view} cannot start anew, alone: {self._allocator.stats()}"
            self._collect(living)
        self._finish(living)

    @property
    def _running(self) -> list[Living]:
        return [living for living in self._living if living.running]

    @property
    def _waiting(self) -> list[Living]:
        return [living for living in self._living if not living.running]

    @property
    def _able(self) -> list[Living]:
        return [living for living in self._living if living.can_step]

    @property
    def _computing(self) -> list[Living]:
        return [living for living in self._living if living.flights]

    # -- how the engine does it ----------------------------------------------------------------------------

    def _add(self, prompt: Iterable[int], *, max_tokens: int, shares_prefixes: bool) -> Living:
        sequence = make_sequence(
            prompt, order=self._order, max_tokens=max_tokens, shares_prefixes=shares_prefixes
        )
        self._order += 1
        living = Living(sequence, truth=list(sequence.tokens))
        self._living.append(living)
        return living

    def _step(self, living: Living, chunk: int, sampled: int) -> bool:
        sequence, view = living.sequence, living.view
        hit = self._match(living) if not living.running else None
        start = hit.num_tokens if hit is not None else sequence.num_computed
        end = min(start + min(chunk, self._layout.max_step_tokens or chunk), sequence.num_tokens)
        tables, before = self._oracle.tables(living), self._allocator.stats()
        if not self._allocator.grow(view, end, hit):
            assert self._oracle.tables(living) == tables, "a refused grow changed the sequence's tables"
            assert self._allocator.stats() == before, "a refused grow changed memory"
            return False
        self._oracle.copy(self._allocator.take_copies())
        if hit is not None:
            living.collected, living.swapped = hit.num_tokens, False
        sequence.status = Status.RUNNING
        for position in range(start, end):
            self._oracle.write(living, position, self._living)
        sequence.num_computed = end
        living.flights.append(end)
        if end == sequence.num_tokens:
            living.truth.append(sampled)
            sequence.num_pending += 1
        return True

    def _collect(self, living: Living) -> None:
        sequence, end = living.sequence, living.flights.popleft()
        self._oracle.mark_computed(living, end)
        self._allocator.commit(living.view, end)
        living.collected = end
        if end == len(sequence.tokens):
            sequence.num_pending -= 1
            sequence.tokens.append(living.truth[end])

    def _preempt(self, living: Living) -> None:
        self._allocator.free(living.view)
        self._wait(living, swapped=False)

    def _wait(self, living: Living, *, swapped: bool) -> None:
        sequence = living.sequence
        self._oracle.copy(self._allocator.take_copies())
        living.swapped, living.collected = swapped, 0
        sequence.status = Status.WAITING
        sequence.num_computed = sequence.num_pending = 0
        sequence.num_preemptions += 1
        living.flights.clear()
        del living.truth[len(sequence.tokens) :]
        self._oracle.check_holds_nothing(living)

    def _finish(self, living: Living) -> None:
        self._allocator.free(living.view)
        self._oracle.check_holds_nothing(living)
        living.sequence.status = Status.FINISHED
        self._living.remove(living)

    def _match(self, living: Living) -> PrefixHit:
        before = self._allocator.stats()
        hit = self._allocator.match(living.view)
        assert self._allocator.stats() == before, "match changed memory"
        self._oracle.check_hit(living, hit)
        return hit

    @invariant()
    def memory_is_sound(self) -> None:
        self._allocator.check_integrity()
        self._oracle.check_stats(self._living)
        for living in self._running:
            self._oracle.check_visible(living)
        for living in self._waiting:
            self._oracle.check_holds_nothing(living)

    @staticmethod
    def _pick(those: list[Living], which: int) -> Living:
        return those[which % len(those)]
