"""A step that was launched: its kernels are queued, its tokens not known yet."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from quire.engine.laps import Laps
from quire.engine.plan import CopiedBytes, Row, RowResult, StepPlan, StepResult, TokenLogprobs
from quire.runtime.logprobs import RowLogprobs
from quire.runtime.readback import Readback
from quire.runtime.slots import Slots, SlotState


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Drawn:
    """What the R rows that sample came to; tensors on the host, which a Readback has to bring first."""

    tokens_R: torch.Tensor
    broken_R: torch.Tensor
    """Their logits were not finite."""
    barred_R: torch.Tensor | None
    """After the processors no token was left; None if there were none."""
    logprobs: RowLogprobs | None


class Launched:
    """Waits for the step's tokens, tells the slots, and makes the result. Used by the runner's thread."""

    def __init__(
        self,
        *,
        plan: StepPlan,
        slots: Slots,
        drawn: Drawn | None,
        prompts: dict[int, list[RowLogprobs]],
        readback: Readback,
        laps: Laps,
        copied: CopiedBytes,
    ) -> None:
        """`prompts` are log probabilities of the prompt by row of the plan."""
        self._plan = plan
        self._slots = slots
        self._drawn = drawn
        self._prompts = prompts
        self._readback = readback
        self._laps = laps
        self._copied = copied
        self._tokens: list[int] | None = None
        self._sampling: list[tuple[Row, SlotState]] = [
            (row, slots.state(row.slot)) for row in plan.rows if row.samples
        ]
        for row, _ in self._sampling:
            slots.expect(row.slot, row.start + row.count)

    def settle(self) -> list[int]:
        """Waits for the tokens and writes each into its slot, unless another sequence has that by now."""
        if self._tokens is None:
            self._readback.wait()
            self._tokens = [] if self._drawn is None else self._drawn.tokens_R.tolist()
            for (row, state), token in zip(self._sampling, self._tokens, strict=True):
                if self._slots.holds(row.slot, state):
                    self._slots.tokens[row.slot, row.start + row.count] = token
        return self._tokens

    def result(self) -> StepResult:
        """What the step came to; waits for it."""
        tokens = self.settle()
        self._laps.lap("forward")  # of a GPU, which goes on after the last launch
        drawn = iter(self._draws(tokens))
        rows: list[RowResult] = []
        for index, row in enumerate(self._plan.rows):
            result = next(drawn) if row.samples else RowResult()
            parts = self._prompts.get(index)
            if parts is not None and result.error is None:
                result = RowResult(
                    token_id=result.token_id, logprobs=result.logprobs, prompt_logprobs=_read(parts)
                )
            rows.append(result)
        self._laps.lap("sample")
        return StepResult(
            index=self._plan.index,
            rows=tuple(rows),
            seconds=self._laps.end - self._laps.start,
            copied=self._copied,
            start=self._laps.start,
            phases=self._laps.seconds,
        )

    def _draws(self, tokens: list[int]) -> list[RowResult]:
        """The results of the rows that sample, without the prompt's log probabilities."""
        drawn = self._drawn
        if drawn is None:
            return []
        logprobs = [None] * len(tokens) if drawn.logprobs is None else drawn.logprobs.read()
        broken = drawn.broken_R.tolist()
        barred = [False] * len(tokens) if drawn.barred_R is None else drawn.barred_R.tolist()
        results: list[RowResult] = []
        for r, (row, _) in enumerate(self._sampling):
            if not broken[r] and not barred[r]:
                results.append(RowResult(token_id=tokens[r], logprobs=logprobs[r]))
                continue
            why = "the logits are not finite" if broken[r] else "its parameters bar every token"
            results.append(RowResult(error=f"{row.sequence_id}: at position {row.start + row.count} {why}"))
        return results


def _read(parts: list[RowLogprobs]) -> tuple[TokenLogprobs, ...]:
    return tuple(entry for part in parts for entry in part.read() if entry is not None)
