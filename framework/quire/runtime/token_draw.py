"""From logits to tokens: checks, processors, the sampler, log probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from quire.engine.plan import Row
from quire.interfaces.sampler import LogitsProcessor, Sampler, SamplingRows
from quire.runtime.launched import Drawn
from quire.runtime.logprobs import row_logprobs
from quire.runtime.readback import Readback
from quire.runtime.slots import Slots, SlotState


class TokenDraw:
    """Draws the next tokens of rows that sample. Nothing here waits for a GPU, unless a plugin does."""

    def __init__(
        self,
        *,
        sampler: Sampler,
        processors: Sequence[LogitsProcessor],
        slots: Slots,
        eos_token_ids: tuple[int, ...],
    ) -> None:
        """`processors` in the order of application."""
        self._sampler = sampler
        self._processors = processors
        self._slots = slots
        self._eos_token_ids = eos_token_ids

    def reads_history(self, rows: Sequence[Row]) -> bool:
        """Whether drawing for these rows takes tokens that the host must know."""
        return self._sampler.reads_history or any(self._slots.state(row.slot).processors for row in rows)

    def tokens(
        self,
        rows: Sequence[Row],
        logits_RV: torch.Tensor,
        sampled: torch.Tensor,
        slots_R: torch.Tensor,
        readback: Readback,
    ) -> Drawn:
        """One for each row, written to `sampled` at its slot, on the device, too. The logits are changed."""
        states = [self._slots.state(row.slot) for row in rows]
        sampling_rows = self._sampling_rows(rows, states)
        broken_R = _blank(~torch.isfinite(logits_RV.amax(dim=-1)), logits_RV)
        tops = [params.logprobs for params in sampling_rows.params]
        raw_RV = logits_RV.clone() if any(top is not None for top in tops) else None
        for processor in self._processors:
            chosen = [r for r, state in enumerate(states) if processor in state.processors]
            if chosen:
                _process(processor, logits_RV, sampling_rows, chosen)
        barred_R = None
        if any(state.processors for state in states):
            barred_R = _blank(logits_RV.amax(dim=-1) == float("-inf"), logits_RV)
        tokens_R = self._sampler.sample(logits_RV, sampling_rows)
        sampled.index_copy_(0, slots_R, tokens_R)
        return Drawn(
            tokens_R=readback.take(tokens_R),
            broken_R=readback.take(broken_R),
            barred_R=None if barred_R is None else readback.take(barred_R),
            logprobs=None if raw_RV is None else row_logprobs(raw_RV, tokens_R, tops, readback),
        )

    def _sampling_rows(self, rows: Sequence[Row], states: Sequence[SlotState]) -> SamplingRows:
        positions = tuple(row.start + row.count for row in rows)
        return SamplingRows(
            params=tuple(state.params for state in states),
            seeds=tuple(state.seed for state in states),
            positions=positions,
            num_prompt=tuple(state.num_prompt for state in states),
            history=tuple(
                self._slots.history(row.slot, position) for row, position in zip(rows, positions, strict=True)
            ),
            eos_token_ids=self._eos_token_ids,
        )


def _blank(failed_R: torch.Tensor, logits_RV: torch.Tensor) -> torch.Tensor:
    """Make rows that failed harmless to those who come after; returns which."""
    if logits_RV.device.type != "cpu" or failed_R.any():  # asking a GPU would wait for it
        logits_RV.masked_fill_(failed_R[:, None], 0.0)
    return failed_R


def _process(
    processor: LogitsProcessor, logits_RV: torch.Tensor, rows: SamplingRows, chosen: list[int]
) -> None:
    """Apply it to the `chosen` rows, those that want it."""
    if len(chosen) == len(rows.params):
        processor.apply(logits_RV, rows)
    else:
        part = logits_RV[chosen]
        processor.apply(part, rows.select(chosen))
        logits_RV[chosen] = part
