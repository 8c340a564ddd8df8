"""The virtual token counter (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024, section 4,
algorithm 2), with weights for tenants.

Each tenant has a counter of the service it got: `input_weight` for each prompt token at admission,
`output_weight` for each token generated, divided by the tenant's weight. The tenant that has got least goes
next. A tenant that comes back after it had nothing to do is lifted to the least of the others, so that nobody
saves up service. While two tenants of weight 1 both have requests waiting, the service of each grows alike to
within 2 max(input_weight x longest prompt, output_weight x M), where M tokens fit into memory (theorem 4.4).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from quire.config.checks import check_above_zero
from quire.engine.queues import QueueView
from quire.engine.sequence import SequenceView
from quire.engine.step import StepBuilder
from quire.interfaces import Scheduler
from quire.scheduling import RankedQueue, add_or_preempt
from quire_plugins.schedulers.tenant_weights import check_tenant, check_weights


@dataclass
class VtcConfig:
    """What service costs, and whose it is. The costs are the paper's."""

    input_weight: float = 1.0
    """Service of a prompt token."""
    output_weight: float = 2.0
    """Service of a generated token."""
    weights: dict[str, float] = field(default_factory=dict[str, float])
    """Share of the service that each tenant is due, against the others. Empty: all alike; otherwise a request
    of a tenant that is not named is refused. `+scheduler.weights.NAME=2` enters one."""

    def __post_init__(self) -> None:
        check_above_zero("scheduler", self, "input_weight", "output_weight")
        check_weights(self.weights)


class Vtc(Scheduler):
    """Of the tenants with requests that wait, the one that got the least service goes next."""

    Config = VtcConfig

    def __init__(self, *, config: VtcConfig) -> None:
        self._config = config
        self._counters: dict[str, float] = {}
        self._living: dict[str, RankedQueue] = {}
        """Each tenant's sequences, by arrival."""
        self._paid: set[int] = set()
        """Sequences whose prompt is counted: one that was preempted does not pay again."""
        self._last_tenant: str | None = None
        """Whose request left the queue last."""

    def check(self, seq: SequenceView, now: float) -> None:
        check_tenant(seq.tenant, self._config.weights)

    def on_arrival(self, seq: SequenceView) -> None:
        mine = self._living.setdefault(seq.tenant, RankedQueue())
        if next(mine.waiting(), None) is None:
            self._lift(seq.tenant)
        mine.put(seq, seq.order)

    def on_finish(self, seq: SequenceView) -> None:
        self._living[seq.tenant].discard(seq)
        self._paid.discard(seq.order)

    def schedule(self, queues: QueueView, step: StepBuilder) -> None:
        running = tuple(queues.running)
        for seq in running:
            left = seq.remaining
            if add_or_preempt(seq, queues, step) == left:
                self._charge(seq.tenant, self._config.output_weight)
        if len(queues.running) < len(running):
            return
        lines = {tenant: living.waiting() for tenant, living in self._living.items()}
        heads = {tenant: seq for tenant, line in lines.items() if (seq := next(line, None)) is not None}
        while heads:
            tenant = min(heads, key=lambda each: (self._counters[each], heads[each].order))
            seq = heads.pop(tenant)
            grant = step.add(seq)
            if not grant:
                break
            self._last_tenant = tenant
            if seq.order not in self._paid:
                self._paid.add(seq.order)
                self._charge(tenant, self._config.input_weight * seq.num_prompt_tokens)
            following = next(lines[tenant], None)
            if following is not None:
                heads[tenant] = following

    def _lift(self, tenant: str) -> None:
        """A tenant without requests that wait has one from now on: what it did not use is lost."""
        waiting = [
            self._counters[other]
            for other, living in self._living.items()
            if other != tenant and next(living.waiting(), None) is not None
        ]
        floor = min(waiting) if waiting else self._counters.get(self._last_tenant or tenant, 0.0)
        self._counters[tenant] = max(self._counters.get(tenant, 0.0), floor)

    def _charge(self, tenant: str, service: float) -> None:
        self._counters[tenant] += service / self._config.weights.get(tenant, 1.0)
