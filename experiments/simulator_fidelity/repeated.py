"""An executor that computes every step several times: chance then has less to do with how long it takes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire_plugins.executors.local import LocalConfig, LocalExecutor

if TYPE_CHECKING:
    from quire.engine.plan import StepPlan, StepResult
    from quire.interfaces.executor import ExecutorContext


@dataclass
class RepeatedConfig(LocalConfig):
    """How often."""

    times: int = 3
    """Measurements of a step; odd, so that one of them is the median."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.times < 1 or self.times % 2 == 0:
            raise UserError(f"executor.times={self.times}: must be odd, and at least 1")


class RepeatedExecutor(LocalExecutor):
    """Of each step the measurement of median length, on a TurnClock, which it has hand over in between.

    A step that is computed again writes the same keys and values to the same places, and draws the same
    tokens.
    """

    Config = RepeatedConfig
    depth = 1

    def __init__(self, *, config: RepeatedConfig, context: ExecutorContext) -> None:
        super().__init__(config=config, context=context)
        self._times = config.times
        self._clock = context.clock

    def submit(self, plan: StepPlan) -> None:
        assert not plan.copies, "a copy might find that the step has written its source"
        self._plan = plan

    def collect(self) -> StepResult:
        clock = self._clock
        clock.stop()
        measured: list[tuple[float, StepResult]] = []
        for number in range(self._times):
            if number:
                clock.hand_over()
            began = time.perf_counter()
            super().submit(self._plan)
            result = super().collect()
            measured.append((time.perf_counter() - began, result))
        clock.measured.append([seconds for seconds, _ in measured])
        seconds, result = sorted(measured, key=lambda each: each[0])[self._times // 2]
        clock.move(seconds)
        clock.go_on()
        return result
