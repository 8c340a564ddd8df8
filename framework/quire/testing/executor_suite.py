"""What every executor must do, as tests that an executor's own tests inherit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from quire.engine.config import EngineConfig
from quire.engine.engine import Engine
from quire.engine.plan import CopiedBytes, StepPlan, StepResult
from quire.engine.request import Request, SamplingParams
from quire.errors import UserError
from quire.interfaces.allocator import KVCopy, Place, Tier
from quire.interfaces.executor import Executor, ExecutorContext, OutOfDeviceMemory
from quire.testing.executor_subject import (
    BreakingSampler,
    ExecutorSubject,
    TenMilliseconds,
    made_executor,
)
from quire.testing.in_order import InOrder
from quire.testing.naive_allocator import NaiveAllocator
from quire.testing.plans import BLOCK, make_plan
from quire.testing.tiny_llama import TINY_LLAMA

_OUTPUT = 10
_LITTLE = 7
"""Blocks that two or three of the prompts fill."""
_PROMPTS = tuple(
    tuple((7 * index + 3 * i) % TINY_LLAMA.vocab_size for i in range(5 + 9 * index)) for index in range(6)
)


class ExecutorSuite(ABC):
    """Inherit, and say how to make one:

        class TestMine(ExecutorSuite):
            def make(self, context) -> Executor:
                return Mine(config=MineConfig(), context=context)

    The model is a tiny Llama of random weights. What an executor computes is compared with that model's
    formulas in float64; of one in virtual time, the clock is with its cost model. That a device or a process
    is lost (`ExecutorLost`) each executor's own tests have to bring about.
    """

    virtual: bool = False
    """Set it for an executor that computes nothing: `make` is then given a SimulationContext."""
    overrides: Sequence[str] = ()
    """Of the run whose configuration is in the context, as on the command line."""

    @abstractmethod
    def make(self, context: Any) -> Executor:
        """An executor of the context's model (an ExecutorContext's, unless it is virtual), not started yet.
        The suite closes it.
        """

    def test_it_knows_its_model_and_what_its_memory_takes(self) -> None:
        with self._made() as subject:
            executor = subject.executor
            assert executor.virtual == self.virtual
            assert executor.depth >= 1, f"at most {executor.depth} steps may be under way"
            info = executor.info
            assert (info.vocab_size, info.max_tokens) == (TINY_LLAMA.vocab_size, TINY_LLAMA.max_tokens), info
            assert info.eos_token_ids == (TINY_LLAMA.eos_token_id,), info
            layers = sorted(layer for group in executor.kv_groups for layer in group.layers)
            assert layers == [0, 1], f"each layer is in one KV group: {executor.kv_groups}"
            sizes = executor.kv_block_bytes(BLOCK)
            assert len(sizes) == len(executor.kv_groups), f"a size for each KV group: {sizes}"
            assert min(sizes) > 0, f"a block takes memory: {sizes}"
            free = _free_bytes(executor)
            assert free > 0 if isinstance(free, int) else "engine.kv_bytes" in free, f"free memory: {free}"

    def test_results_come_in_the_order_of_the_plans(self) -> None:
        """As many steps are under way as may be: most are submitted before their tokens are known."""
        with self._started() as subject:
            plans = subject.maker.plans(_PROMPTS[:2], steps=6)
            under_way: deque[StepPlan] = deque()
            results: list[StepResult] = []
            for plan in plans:
                if len(under_way) == subject.executor.depth:
                    results.append(subject.collect(under_way.popleft()))
                subject.executor.submit(plan)
                under_way.append(plan)
            results += [subject.collect(plan) for plan in under_way]
            for row, prompt in enumerate(_PROMPTS[:2]):
                self._check_tokens([result.rows[row].token_id for result in results], prompt)

    def test_a_chunk_that_is_not_the_last_has_no_token(self) -> None:
        with self._started() as subject:
            prompt = _PROMPTS[3]
            first = subject.maker.prompt(0, prompt, count=len(prompt) - 4)
            begun = subject.run(make_plan(0, first))
            assert begun.rows[0].token_id is None, "the prompt goes on, and a token was sampled"
            ended = subject.run(make_plan(1, subject.maker.next(first, count=4)))
            self._check_tokens([ended.rows[0].token_id], prompt)

    def test_copied_blocks_serve_another_sequence(self) -> None:
        """A block is copied before a step that reads the copy; the bytes that this moved are counted."""
        with self._started() as subject:
            maker, prompt = subject.maker, _PROMPTS[4]
            subject.run(make_plan(0, maker.prompt(0, prompt)))
            source, target = (Place(Tier.DEVICE, maker.table(slot)[0]) for slot in (0, 1))
            copies = [
                KVCopy(group=group, source=source, target=target)
                for group in range(len(subject.executor.kv_groups))
            ]
            result = subject.run(make_plan(1, maker.prompt(1, prompt, start=BLOCK), copies=copies))
            self._check_tokens([result.rows[0].token_id], prompt)
            expected = CopiedBytes.of(copies, subject.executor.kv_block_bytes(BLOCK))
            assert result.copied == expected, f"{result.copied}, not {expected}"

    def test_an_engine_brings_every_request_to_its_end(self) -> None:
        """In chunks, in slots that others had, with so little memory that some must give way."""
        for overlap in (False, True):
            with self._made() as subject:
                self._serve(subject, blocks=_LITTLE, overlap=overlap)

    def test_started_again_it_begins_anew(self) -> None:
        with self._made() as subject:
            for blocks in (_LITTLE, 4 * _LITTLE):
                self._serve(subject, blocks=blocks)

    def test_closing_again_changes_nothing(self) -> None:
        """Never started, or with a step under way that nobody collects; it is closed once more at the end."""
        with self._made() as subject:
            subject.executor.close()
        with self._started() as subject:
            subject.executor.submit(subject.maker.plans(_PROMPTS[:1], steps=1)[0])
            subject.executor.close()

    def test_memory_that_cannot_be_had_is_said_at_the_start(self) -> None:
        if self.virtual:
            return
        with self._made() as subject:
            too_many = 2**56 // max(subject.executor.kv_block_bytes(BLOCK))
            layout = subject.maker.layout(max_tokens=TINY_LLAMA.max_tokens, num_blocks=too_many)
            with pytest.raises(UserError, match=r"engine\.kv_bytes"):
                subject.executor.start(layout, max_sequences=4)
            self._serve(subject, blocks=_LITTLE)

    def test_what_breaks_a_step_is_raised_when_it_is_collected(self) -> None:
        """That step alone, and as OutOfDeviceMemory where memory is short; others go on."""
        if self.virtual:
            return
        for error, raised in ((ValueError("broken"), ValueError), (MemoryError(), OutOfDeviceMemory)):
            with self._started() as subject:
                assert isinstance(subject.context, ExecutorContext)
                sampler = subject.context.sampler
                assert isinstance(sampler, BreakingSampler)
                sampler.error = error
                subject.executor.submit(make_plan(0, subject.maker.prompt(0, _PROMPTS[3])))
                with pytest.raises(raised):
                    subject.executor.collect()
                assert sampler.error is None, "the context's sampler was not asked"
                for index, slot in ((1, 0), (2, 1)):
                    result = subject.run(make_plan(index, subject.maker.prompt(slot, _PROMPTS[3])))
                    self._check_tokens([result.rows[0].token_id], _PROMPTS[3])

    def test_steps_take_the_time_that_the_cost_model_says(self) -> None:
        """One after another on the virtual clock, however many are under way."""
        if not self.virtual:
            return
        with self._started() as subject:
            clock = subject.context.clock
            plans, end = subject.maker.plans(_PROMPTS[:2], steps=subject.executor.depth), clock.now()
            for plan in plans:
                subject.executor.submit(plan)
            for plan in plans:
                took, seconds = subject.collect(plan).seconds, TenMilliseconds().seconds(plan.shape)
                assert took == pytest.approx(seconds), f"{took} s instead of {seconds} s: {plan.shape}"
                end += seconds
                assert clock.now() == pytest.approx(end), f"it is {clock.now()}, the step ends at {end}"

    def _serve(self, subject: ExecutorSubject, *, blocks: int, overlap: bool = True) -> None:
        executor = subject.executor
        layout = subject.maker.layout(max_tokens=TINY_LLAMA.max_tokens, num_blocks=blocks)
        executor.start(layout, max_sequences=4)
        engine = Engine(
            config=EngineConfig(max_sequences=4, max_step_tokens=23, overlap=overlap),
            scheduler=InOrder(),
            allocator=NaiveAllocator(layout=layout),
            layout=layout,
            executor=executor,
            clock=subject.context.clock,
            info=executor.info,
        )
        sampling = SamplingParams(temperature=0.0, max_tokens=_OUTPUT, ignore_eos=True)
        for index, prompt in enumerate(_PROMPTS):
            engine.add(Request(id=str(index), prompt_token_ids=prompt, sampling=sampling))
        outputs: list[list[int]] = [[] for _ in _PROMPTS]
        while engine.has_work:
            for output in engine.step():
                assert output.error is None, output.error
                outputs[int(output.request_id)].extend(output.token_ids)
        gave_way = sum(record.num_preempted for record in engine.take_records())
        assert gave_way or blocks > _LITTLE, "nobody had to give way, so that this was not tested"
        for prompt, tokens in zip(_PROMPTS, outputs, strict=True):
            assert len(tokens) == _OUTPUT, f"{len(tokens)} tokens instead of {_OUTPUT}"
            self._check_tokens(tokens, prompt)

    def _check_tokens(self, tokens: Sequence[int | None], prompt: Sequence[int]) -> None:
        for token in tokens:
            assert isinstance(token, int), f"a row that samples came to {token!r}"
            assert 0 <= token < TINY_LLAMA.vocab_size, f"the vocabulary has no token {token}"
        if not self.virtual:
            expected = TINY_LLAMA.greedy(prompt, len(tokens))
            assert list(tokens) == expected, f"{len(prompt)} tokens go on with {tokens}, not {expected}"

    @contextmanager
    def _started(self) -> Generator[ExecutorSubject]:
        with self._made() as subject:
            layout = subject.maker.layout(max_tokens=TINY_LLAMA.max_tokens)
            subject.executor.start(layout, max_sequences=subject.maker.max_sequences)
            yield subject

    def _made(self) -> AbstractContextManager[ExecutorSubject]:
        return made_executor(self.make, virtual=self.virtual, overrides=self.overrides)


def _free_bytes(executor: Executor) -> int | str:
    """Or why it knows none."""
    try:
        return executor.free_bytes()
    except UserError as error:
        return str(error)
