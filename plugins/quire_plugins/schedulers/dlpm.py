"""Deficit longest prefix match (Cao et al., "Locality-aware Fair Scheduling in LLM Serving", 2025,
algorithm 1): longest prefix first among the tenants that have service left of their quantum.

A tenant pays for what it makes the engine compute, prompt tokens that the prefix cache does not hold and
tokens generated, from a deficit counter; when nobody who waits has any left, each gets another quantum. So
a larger quantum gives more prefix hits, and a smaller one tighter fairness.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice

from quire.config.checks import check_above_zero
from quire.engine.queues import QueueView
from quire.engine.sequence import SequenceView
from quire.engine.step import StepBuilder
from quire.errors import UserError
from quire.interfaces import Scheduler
from quire.scheduling import RankedQueue, add_or_preempt
from quire_plugins.schedulers.tenant_weights import check_tenant, check_weights


@dataclass
class DlpmConfig:
    """What service costs, and how much of it a tenant may take at once."""

    quantum: float = 4096.0
    """Service that a tenant of weight 1 gets each time, in the units of the weights below."""
    input_weight: float = 1.0
    """Service of a prompt token that is computed."""
    output_weight: float = 2.0
    """Service of a generated token."""
    window: int = 128
    """The earliest of each tenant's requests that wait, so many, are compared by their cached prefix."""
    weights: dict[str, float] = field(default_factory=dict[str, float])
    """Share of the service that each tenant is due, against the others. Empty: all alike; otherwise a request
    of a tenant that is not named is refused."""

    def __post_init__(self) -> None:
        check_above_zero("scheduler", self, "quantum", "input_weight", "output_weight")
        if self.window < 1:
            raise UserError(f"scheduler.window={self.window}: must be at least 1")
        check_weights(self.weights)


class Dlpm(Scheduler):
    """Longest cached prefix first, of the tenants that have not used up their quantum."""

    Config = DlpmConfig

    def __init__(self, *, config: DlpmConfig) -> None:
        self._config = config
        self._deficits: dict[str, float] = {}
        self._living: dict[str, RankedQueue] = {}
        """Each tenant's sequences, by arrival."""
        self._paid: set[int] = set()
        """Sequences whose prompt is paid for."""

    def check(self, seq: SequenceView, now: float) -> None:
        check_tenant(seq.tenant, self._config.weights)

    def on_arrival(self, seq: SequenceView) -> None:
        self._deficits.setdefault(seq.tenant, 0.0)
        self._living.setdefault(seq.tenant, RankedQueue()).put(seq, seq.order)

    def on_finish(self, seq: SequenceView) -> None:
        self._living[seq.tenant].discard(seq)
        self._paid.discard(seq.order)

    def schedule(self, queues: QueueView, step: StepBuilder) -> None:
        running = tuple(queues.running)
        for seq in running:
            left = seq.remaining
            if add_or_preempt(seq, queues, step) == left:
                self._deficits[seq.tenant] -= self._config.output_weight
        if len(queues.running) < len(running):
            return
        while step.sequences_left and step.tokens_left:
            candidates = self._candidates(step)
            if not candidates:
                break
            for seq in candidates:
                if self._deficits[seq.tenant] > 0 and not self._start(seq, step):
                    return

    def _candidates(self, step: StepBuilder) -> list[SequenceView]:
        """Of the tenants with a deficit left, the requests that wait, longest prefix first."""
        lines = {
            tenant: line for tenant, living in self._living.items() if (line := self._line(living, step))
        }
        if lines and all(self._deficits[tenant] <= 0 for tenant in lines):
            self._replenish(lines)
        willing = [seq for tenant, line in lines.items() if self._deficits[tenant] > 0 for seq in line]
        return sorted(willing, key=lambda seq: (-step.cached_tokens(seq), seq.order))

    def _line(self, living: RankedQueue, step: StepBuilder) -> list[SequenceView]:
        waiting = (seq for seq in living.waiting() if seq not in step)
        return list(islice(waiting, self._config.window))

    def _replenish(self, tenants: dict[str, list[SequenceView]]) -> None:
        """Give each as many quanta as it takes until one has some service left."""
        shares = {each: self._config.quantum * self._config.weights.get(each, 1.0) for each in tenants}
        rounds = min(-self._deficits[each] // share + 1 for each, share in shares.items())
        for each, share in shares.items():
            self._deficits[each] += rounds * share

    def _start(self, seq: SequenceView, step: StepBuilder) -> bool:
        computed = seq.num_prompt_tokens - min(step.cached_tokens(seq), seq.num_prompt_tokens)
        grant = step.add(seq)
        if grant and seq.order not in self._paid:
            self._paid.add(seq.order)
            self._deficits[seq.tenant] -= self._config.input_weight * computed
        return bool(grant)
