"""An executor without tensors that believes nothing: it checks every plan against a model of KV memory.

For each block it knows which tokens were written there, after which others. A row of a plan may be computed
only if all that its queries see, through the tables that the engine sent and within each group's window, is
exactly its own sequence. So engine, scheduler and allocator are tested together, at any size and chunking,
in microseconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from quire.clock import VirtualClock
from quire.engine.plan import CopiedBytes, Newcomer, Row, RowResult, StepPlan, StepResult
from quire.interfaces.allocator import KVCopy, KVGroup, KVLayout, Place, Tier
from quire.interfaces.executor import Executor
from quire.models.model import ModelInfo
from quire.testing.script import Script


def affine_seconds(plan: StepPlan) -> float:
    """A plausible cost of a step: 10 ms, and 0.1 ms a token."""
    return 0.010 + 0.0001 * plan.num_tokens


@dataclass(slots=True, kw_only=True)
class Resident:
    """The sequence in a slot. `nodes[p]` stands for its tokens up to and including position p."""

    sequence_id: str
    seed: int
    digest: int
    tables: tuple[list[int], ...]
    tokens: list[int] = field(default_factory=list[int])
    nodes: list[int] = field(default_factory=list[int])
    computed: int = 0


def _empty_memory(num_blocks: Sequence[int], block_size: int) -> list[list[list[int | None]]]:
    """For each group, its blocks, with what each token's slot holds."""
    return [[[None] * block_size for _ in range(blocks)] for blocks in num_blocks]


class ScriptedExecutor(Executor):
    """Speaks `script`. Every plan is kept in `plans`, every sequence's seed in `seeds`.

    A step takes `seconds(plan)` on `clock`, one after another; without a clock it takes no time.
    """

    def __init__(
        self,
        *,
        script: Script,
        info: ModelInfo,
        kv_groups: tuple[KVGroup, ...],
        clock: VirtualClock | None = None,
        seconds: Callable[[StepPlan], float] = affine_seconds,
    ) -> None:
        self.info = info
        self.kv_groups = kv_groups
        self.plans: list[StepPlan] = []
        self.seeds: dict[str, int] = {}
        self._script = script
        self._clock = clock
        self._seconds = seconds
        self._busy_until = 0.0
        self._results: deque[tuple[float, StepResult]] = deque()
        self._residents: dict[int, Resident] = {}
        self._nodes: dict[tuple[int, int], int] = {}  # (node of the tokens before, token) -> node

    def kv_block_bytes(self, block_size: int) -> tuple[int, ...]:
        """A byte a token."""
        return (block_size,) * len(self.kv_groups)

    def free_bytes(self) -> int:
        return 2**16

    def start(self, layout: KVLayout, *, max_sequences: int) -> None:
        self._layout = layout
        self._max_sequences = max_sequences
        self._memory = _empty_memory(layout.num_blocks, layout.block_size)
        self._host_memory = _empty_memory(layout.host_blocks, layout.block_size)

    def submit(self, plan: StepPlan) -> None:
        assert len(self._results) < self.depth, f"more than {self.depth} steps under way"
        self._check_rows(plan)
        self.plans.append(plan)
        for copy in plan.copies:
            self._copy(copy)
        residents = [self._settle(row) for row in plan.rows]
        self._write_all(plan.rows, residents)
        for row, resident in zip(plan.rows, residents, strict=True):
            self._read(row, resident)
        rows = tuple(self._advance(row, resident) for row, resident in zip(plan.rows, residents, strict=True))
        seconds, start = self._seconds(plan), None
        if self._clock is not None:
            start = max(self._busy_until, self._clock.now())
            self._busy_until = start + seconds
        result = StepResult(
            index=plan.index,
            rows=rows,
            seconds=seconds,
            copied=CopiedBytes.of(plan.copies, self.kv_block_bytes(self._layout.block_size)),
            start=start,
            phases={"forward": seconds},
        )
        self._results.append((self._busy_until, result))

    def collect(self) -> StepResult:
        end, result = self._results.popleft()
        if self._clock is not None:
            self._clock.sleep_until(end)
        return result

    def close(self) -> None:
        self._results.clear()
        self._residents.clear()

    def _check_rows(self, plan: StepPlan) -> None:
        rows = plan.rows
        assert plan.index == len(self.plans), f"step {plan.index} is submitted as number {len(self.plans)}"
        assert rows, f"step {plan.index} is empty"
        assert len({row.slot for row in rows}) == len(rows), f"a slot is twice in step {plan.index}"
        assert len({row.sequence_id for row in rows}) == len(rows), (
            f"a sequence is twice in step {plan.index}"
        )
        for row in rows:
            assert 0 <= row.slot < self._max_sequences, f"{row}: there is no such slot"
            assert row.count >= 1, f"{row} computes nothing"

    def _copy(self, copy: KVCopy) -> None:
        """Make a copy, of something, to a block that exists."""
        source, target = self._block(copy.group, copy.source), self._block(copy.group, copy.target)
        assert source is not target, f"{copy} copies a block to itself"
        assert any(node is not None for node in source), f"{copy} copies a block that was never written"
        target[:] = source

    def _block(self, group: int, place: Place) -> list[int | None]:
        memory = self._memory if place.tier is Tier.DEVICE else self._host_memory
        assert group < len(memory), f"group {group} has no {place.tier.value} memory"
        assert 0 <= place.block < len(memory[group]), f"group {group} has no {place}"
        return memory[group][place.block]

    def _settle(self, row: Row) -> Resident:
        """The sequence of `row`, with what the row tells of it."""
        if row.newcomer is not None:
            self._residents[row.slot] = self._welcome(row, row.newcomer)
        resident = self._residents.get(row.slot)
        assert resident is not None, f"{row}: the slot is empty"
        assert resident.sequence_id == row.sequence_id, f"{row}: the slot is {resident.sequence_id}'s"
        for table, first, blocks in zip(resident.tables, row.first_block, row.new_blocks, strict=True):
            assert first <= len(table), f"{row}: table entries {len(table)}:{first} were never sent"
            table[first : first + len(blocks)] = blocks
        assert row.start == resident.computed, f"{row}: {resident.computed} tokens are computed"
        known = len(resident.tokens)
        assert row.start + row.count <= known, f"{row} computes a token that nobody knows yet"
        ends = row.start + row.count == known
        assert row.samples == ends, f"{row}: samples must be {ends}, the sequence has {known} tokens"
        return resident

    def _welcome(self, row: Row, newcomer: Newcomer) -> Resident:
        seed = self.seeds.setdefault(row.sequence_id, newcomer.seed)
        assert seed == newcomer.seed, f"{row}: its seed was {seed} before"
        resident = Resident(
            sequence_id=row.sequence_id,
            seed=seed,
            digest=self._script.begin(newcomer.params, seed),
            tables=tuple([] for _ in self._layout.groups),
            computed=row.start,
        )
        for token in newcomer.token_ids:
            self._append(resident, token)
        return resident

    def _append(self, resident: Resident, token: int) -> None:
        parent = resident.nodes[-1] if resident.nodes else -1
        resident.nodes.append(self._nodes.setdefault((parent, token), len(self._nodes)))
        resident.tokens.append(token)
        resident.digest = self._script.read(resident.digest, [token])

    def _write_all(self, rows: Sequence[Row], residents: Sequence[Resident]) -> None:
        """Store every row's tokens; all of a step's are stored before any is attended to."""
        writer: dict[tuple[int, int], str] = {}
        size = self._layout.block_size
        for row, resident in zip(rows, residents, strict=True):
            for group, table in enumerate(resident.tables):
                room = len(table) * size
                assert row.start + row.count <= room, f"{row}: its table of group {group} has room for {room}"
                for position in range(row.start, row.start + row.count):
                    index, offset = divmod(position, size)
                    block = table[index]
                    other = writer.setdefault((group, block), row.sequence_id)
                    assert other == row.sequence_id, f"{row} and {other} write block {block} of group {group}"
                    self._memory[group][block][offset] = resident.nodes[position]

    def _read(self, row: Row, resident: Resident) -> None:
        """Check that all which the row's queries see is the row's own sequence."""
        size, end = self._layout.block_size, row.start + row.count
        for group, (spec, table) in enumerate(zip(self._layout.groups, resident.tables, strict=True)):
            first = 0 if spec.window is None else max(0, row.start - spec.window + 1)
            for index in range(first // size, -(-end // size)):
                low, high = max(first, index * size), min(end, (index + 1) * size)
                found = self._memory[group][table[index]][low - index * size : high - index * size]
                own = resident.nodes[low:high]
                assert found == own, (
                    f"{row} sees foreign tokens at {low}:{high}, in block {table[index]} of group {group}: "
                    f"{found} where {own} should be"
                )

    def _advance(self, row: Row, resident: Resident) -> RowResult:
        resident.computed = row.start + row.count
        if not row.samples:
            return RowResult()
        token = self._script.choose(resident.digest)
        self._append(resident, token)
        return RowResult(token_id=token)
