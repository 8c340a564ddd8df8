"""An executor of the tiny Llama, made as a run makes one, and what it is tried with."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.clock import VirtualClock, WallClock
from quire.engine.plan import StepPlan, StepResult
from quire.engine.shape import StepShape
from quire.interfaces.cost_model import CostModel
from quire.interfaces.executor import Executor, ExecutorContext, ModelContext, SimulationContext
from quire.interfaces.sampler import Sampler, SamplingRows
from quire.testing.plans import PlanMaker
from quire.testing.tiny_llama import TINY_LLAMA

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutorSubject:
    """An executor, what it was told, and what makes steps for it."""

    executor: Executor
    context: ModelContext
    maker: PlanMaker

    def run(self, plan: StepPlan) -> StepResult:
        """Compute one step."""
        self.executor.submit(plan)
        return self.collect(plan)

    def collect(self, plan: StepPlan) -> StepResult:
        """The result of the oldest step, which must be that of `plan`."""
        result = self.executor.collect()
        assert result.index == plan.index, f"the result of step {result.index} instead of {plan.index}"
        assert len(result.rows) == len(plan.rows), f"{len(result.rows)} results of {len(plan.rows)} rows"
        errors = [row.error for row in result.rows if row.error is not None]
        assert not errors, errors
        assert 0 <= result.seconds < 60, f"step {plan.index} took {result.seconds} s"
        phases = sum(result.phases.values())
        assert phases <= 1.01 * result.seconds + 1e-3, f"its phases take {phases} s of {result.seconds} s"
        return result


@contextmanager
def made_executor(
    make: Callable[[Any], Executor],
    *,
    virtual: bool,
    overrides: Sequence[str],
) -> Generator[ExecutorSubject]:
    """Not started yet; closed at the end."""
    with tempfile.TemporaryDirectory() as directory:
        TINY_LLAMA.save(Path(directory))
        context = _context(Path(directory), virtual=virtual, overrides=overrides)
        executor = make(context)
        try:
            yield ExecutorSubject(executor=executor, context=context, maker=PlanMaker(executor.kv_groups))
        finally:
            executor.close()


def _context(
    directory: Path, *, virtual: bool, overrides: Sequence[str]
) -> ExecutorContext | SimulationContext:
    """With plain torch beneath, and a sampler that can be told to break."""
    from quire.config.compose import compose
    from quire.registry import load_registry
    from quire.run import Run

    fixed = ("device=cpu", "dtype=float32", "attention=sdpa", "ops=torch", "engine.threads=1")
    registry = load_registry()
    config = compose([f"model={directory}", *fixed, *overrides], registry)
    run = Run(config=config, registry=registry, directory=directory)
    context = run.executor_context(VirtualClock() if virtual else WallClock())
    if not virtual:
        return replace(context, sampler=BreakingSampler(context.sampler))
    shared = {field.name: getattr(context, field.name) for field in fields(ModelContext)}
    return SimulationContext(**shared, cost_model=TenMilliseconds())


class BreakingSampler(Sampler):
    """Another sampler, but raises `error` the next time that it is asked, if there is one."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self.reads_history = sampler.reads_history
        self.error: Exception | None = None

    def sample(self, logits_RV: torch.Tensor, rows: SamplingRows) -> torch.Tensor:
        error, self.error = self.error, None
        if error is not None:
            raise error
        return self._sampler.sample(logits_RV, rows)


class TenMilliseconds(CostModel):
    """A step takes that, and a millisecond a token."""

    @classmethod
    def fit(cls, *, config: object, shapes: Sequence[StepShape], seconds: Sequence[float]) -> TenMilliseconds:
        return cls()

    def parameters(self) -> dict[str, float]:
        return {}

    def seconds(self, shape: StepShape) -> float:
        return 0.01 + 0.001 * shape.num_tokens
