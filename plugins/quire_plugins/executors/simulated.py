"""The executor of virtual time: nothing is computed, each step takes as long as a cost model says.

Scheduler, allocator and eviction are the very objects of a real run, driven by the same engine (after Agrawal
et al., Vidur, MLSys 2024, but with no second implementation of any policy). Steps take their turns on one
device, as far ahead of their results as the real executor's:

    submit n     submit n + 1   collect n              collect n + 1
       |------ seconds(n) ------|---- seconds(n + 1) ----|
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from quire.clock import VirtualClock
from quire.config.checks import check_above_zero
from quire.engine.plan import (
    COPY_PHASE,
    CopiedBytes,
    Newcomer,
    Row,
    RowResult,
    StepPlan,
    StepResult,
)
from quire.errors import MissingCapability, UserError
from quire.interfaces.allocator import KVLayout
from quire.interfaces.executor import Executor, SimulationContext
from quire.rng import derive_seed, uniform


@dataclass
class SimulatedConfig:
    """Options of `executor=simulated`."""

    output_mean: float | None = None
    """Mean length in tokens of outputs that the workload does not force: they end at random, each token with
    the same chance; null: only at the length that the request declares."""
    copy_bytes_per_s: float = 25e9
    """Bytes of KV that are copied in a second, to and from host memory and within the device's; a step waits
    for its copies. The default is about a PCIe 4.0 bus of 16 lanes."""

    def __post_init__(self) -> None:
        check_above_zero("executor", self, "copy_bytes_per_s", what="number of bytes a second")
        if self.output_mean is not None and not 1 <= self.output_mean < float("inf"):
            raise UserError(f"executor.output_mean={self.output_mean}: must be a number of tokens >= 1")


@dataclass(slots=True)
class _Speaker:
    """What a sequence in a slot says: the same token over and over, until the end that was drawn for it."""

    word: RowResult
    last_length: int | None
    """Tokens, prompt included, after which the next one is the end of sequence."""


class SimulatedExecutor(Executor):
    """Advances the virtual clock by the cost of each step; loads the model's shape, never its weights."""

    Config = SimulatedConfig
    virtual = True

    def __init__(self, *, config: SimulatedConfig, context: SimulationContext) -> None:
        from quire.models.shape import read_shape

        if not isinstance(context.clock, VirtualClock):
            raise MissingCapability(
                "executor=simulated: runs on a virtual clock only, this task needs real time"
            )
        shape = read_shape(
            context.checkpoint,
            architectures=context.architectures,
            device=context.device,
            dtype=context.dtype,
            max_tokens=context.max_tokens,
        )
        if config.output_mean is not None and not shape.info.eos_token_ids:
            raise UserError(
                f"executor.output_mean={config.output_mean}: the model names no end of sequence; must be null"
            )
        self.info = shape.info
        self.kv_groups = shape.kv_groups
        self._copy_bytes_per_s = config.copy_bytes_per_s
        self._element_bytes = shape.element_bytes if context.kv_dtype == "auto" else 1
        self._scale_bytes = 0 if context.kv_dtype == "auto" else 4  # a float32 for each token and head
        self._clock = context.clock
        self._cost_model = context.cost_model
        self._end_chance = None if config.output_mean is None else 1.0 / config.output_mean
        self._speakers: dict[int, _Speaker] = {}
        self._busy_until = 0.0
        self._results: deque[tuple[float, StepResult]] = deque()

    def kv_block_bytes(self, block_size: int) -> tuple[int, ...]:
        return tuple(
            (2 * group.kv_heads if group.latent_dim is None else 1)
            * (group.head_dim * self._element_bytes + self._scale_bytes)
            * block_size
            * len(group.layers)
            for group in self.kv_groups
        )

    def free_bytes(self) -> int:
        raise UserError(
            "engine.kv_bytes=auto: executor=simulated has no memory to measure; must be bytes such as 2GiB"
        )

    def start(self, layout: KVLayout, *, max_sequences: int) -> None:
        del max_sequences
        self._block_bytes = self.kv_block_bytes(layout.block_size)

    def submit(self, plan: StepPlan) -> None:
        seconds = self._cost_model.seconds(plan.shape)
        copied, phases = _NO_COPIES, dict[str, float]()
        if plan.copies:
            copied = CopiedBytes.of(plan.copies, self._block_bytes)
            phases[COPY_PHASE] = copied.total / self._copy_bytes_per_s
            seconds += phases[COPY_PHASE]
        rows = tuple([self._result(row) for row in plan.rows])
        self._busy_until = max(self._busy_until, self._clock.now()) + seconds
        result = StepResult(index=plan.index, rows=rows, seconds=seconds, copied=copied, phases=phases)
        self._results.append((self._busy_until, result))

    def collect(self) -> StepResult:
        end, result = self._results.popleft()
        self._clock.sleep_until(end)
        return result

    def close(self) -> None:
        self._results.clear()
        self._speakers.clear()

    def _result(self, row: Row) -> RowResult:
        if row.newcomer is not None:
            self._speakers[row.slot] = self._speaker(row.newcomer)
        speaker = self._speakers[row.slot]
        if not row.samples:
            return speaker.word if speaker.word.error is not None else _NOTHING
        if speaker.last_length is not None and row.start + row.count >= speaker.last_length:
            return RowResult(token_id=self.info.eos_token_ids[0])
        return speaker.word

    def _speaker(self, newcomer: Newcomer) -> _Speaker:
        params = newcomer.params
        if params.logprobs is not None or params.prompt_logprobs is not None:
            error = "executor=simulated computes no logits, so no log probabilities; executor=local does"
            return _Speaker(word=RowResult(error=error), last_length=None)
        ends = {*self.info.eos_token_ids, *params.stop_token_ids}
        word = newcomer.seed % self.info.vocab_size
        while word in ends:
            word = (word + 1) % self.info.vocab_size
        return _Speaker(
            word=RowResult(token_id=word), last_length=self._draw_end(newcomer.seed, newcomer.num_prompt)
        )

    def _draw_end(self, seed: int, num_prompt: int) -> int | None:
        """Geometric, by inversion; the same after a preemption, as it hangs on the sequence's seed alone."""
        if self._end_chance is None:
            return None
        draw = uniform(derive_seed(seed, "simulated end"), 0)
        spoken = 0 if self._end_chance == 1.0 else int(math.log1p(-draw) / math.log1p(-self._end_chance))
        return num_prompt + spoken


_NOTHING = RowResult()
_NO_COPIES = CopiedBytes()
