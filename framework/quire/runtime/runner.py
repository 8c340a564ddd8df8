"""The runner: a plan in, tokens out. It owns the KV tensors and the persistent batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from quire.engine.laps import Laps
from quire.engine.plan import (
    COPY_PHASE,
    CopiedBytes,
    Row,
    RowResult,
    StepPlan,
    StepResult,
    TokenLogprobs,
)
from quire.interfaces.allocator import KVLayout
from quire.interfaces.attention import AttentionBackend, KVCache
from quire.interfaces.sampler import LogitsProcessor, Sampler, SamplingRows
from quire.models.model import Model
from quire.runtime.block_copier import BlockCopier
from quire.runtime.inputs import build_batch
from quire.runtime.logprobs import token_logprobs
from quire.runtime.machine import prefer_huge_pages
from quire.runtime.slots import Slots, SlotState

_LOGPROB_ROWS = 64
"""Prompt rows whose logits are held at once: a vocabulary of 150,000 takes 0.6 MB a row."""


@dataclass(slots=True)
class _Wanted:
    """Where the logits of a row of the plan are among the step's logit rows."""

    first: int
    """Its first logit row."""
    prompt: int
    """Prompt positions whose next token's log probability is asked for."""


class Runner:
    """Computes steps of one model on one device. Called by one thread."""

    def __init__(
        self,
        *,
        model: Model,
        attention: AttentionBackend,
        sampler: Sampler,
        processors: Iterable[LogitsProcessor],
        layout: KVLayout,
        device: torch.device,
        dtype: torch.dtype,
        max_sequences: int,
    ) -> None:
        self._model = model
        self._attention = attention
        self._sampler = sampler
        self._processors = tuple(sorted(processors, key=lambda processor: processor.rank))
        self._block_size = layout.block_size
        self._device = device
        self._slots = Slots(
            max_sequences=max_sequences,
            max_tokens=layout.max_tokens,
            table_widths=tuple(layout.blocks_for(layout.max_tokens) for _ in layout.groups),
            processors=self._processors,
        )
        self._group_layers = tuple(model.layers[group.layers[0]] for group in layout.groups)
        self._caches = tuple(self._allocate(layout, layer.group, dtype) for layer in model.layers)
        self._copier = BlockCopier(
            caches=self._caches,
            groups=tuple(layer.group for layer in model.layers),
            host_blocks=layout.host_blocks,
            device=device,
        )

    def _allocate(self, layout: KVLayout, group: int, dtype: torch.dtype) -> KVCache:
        k_shape, v_shape = self._attention.kv_cache_shapes(
            num_blocks=layout.num_blocks[group],
            kv_heads=layout.groups[group].kv_heads,
            block_size=layout.block_size,
            head_dim=layout.groups[group].head_dim,
            dtype=dtype,
        )
        k, v = (torch.empty(shape, dtype=dtype, device=self._device) for shape in (k_shape, v_shape))
        if self._device.type == "cpu":
            for cache in (k, v):
                prefer_huge_pages(cache.data_ptr(), cache.nbytes)
        return KVCache(k=k, v=v)

    @torch.inference_mode()
    def run(self, plan: StepPlan) -> StepResult:
        """Compute one step. Rows with logits that are not finite come back as errors, the others go on."""
        laps = Laps()
        copied = CopiedBytes()
        if plan.copies:
            copied = self._copier.run(plan.copies)
            laps.lap(COPY_PHASE)
        for row in plan.rows:
            self._slots.apply(row)
        wanted, logit_rows = self._wanted(plan)
        batch = build_batch(plan, self._slots, logit_rows, block_size=self._block_size, device=self._device)
        laps.lap("batch")
        metadata = self._attention.prepare(batch, self._group_layers)
        laps.lap("attention")
        hidden_RE = self._model.forward(batch, self._caches, metadata)
        laps.lap("forward")
        results = self._draw(plan, wanted, hidden_RE, laps)
        laps.lap("sample")
        return StepResult(
            index=plan.index,
            rows=results,
            seconds=laps.end - laps.start,
            copied=copied,
            start=laps.start,
            phases=laps.seconds,
        )

    def _wanted(self, plan: StepPlan) -> tuple[list[_Wanted], np.ndarray]:
        """Which tokens of the step need logits: the last of rows that sample, prompts asked about."""
        wanted: list[_Wanted] = []
        logit_rows: list[int] = []
        token = 0
        for row in plan.rows:
            state = self._slots.state(row.slot)
            prompt = 0
            if state.params.prompt_logprobs is not None:
                prompt = max(0, min(row.start + row.count, state.num_prompt - 1) - row.start)
            wanted.append(_Wanted(len(logit_rows), prompt))
            logit_rows.extend(range(token, token + prompt))
            if row.samples:
                logit_rows.append(token + row.count - 1)
            token += row.count
        return wanted, np.asarray(logit_rows, dtype=np.int64)

    def _draw(
        self, plan: StepPlan, wanted: list[_Wanted], hidden_RE: torch.Tensor, laps: Laps
    ) -> tuple[RowResult, ...]:
        sampling = [i for i, row in enumerate(plan.rows) if row.samples]
        drawn: dict[int, RowResult] = {}
        if sampling:
            at = [wanted[i].first + wanted[i].prompt for i in sampling]
            rows_RE = hidden_RE if len(at) == hidden_RE.shape[0] else hidden_RE[at]
            logits_RV = self._model.logits(rows_RE)
            laps.lap("logits")
            results = self._sample([plan.rows[i] for i in sampling], logits_RV)
            drawn = dict(zip(sampling, results, strict=True))
        results: list[RowResult] = []
        for i, (row, want) in enumerate(zip(plan.rows, wanted, strict=True)):
            result = drawn.get(i, RowResult())
            if want.prompt and result.error is None:
                result = RowResult(
                    token_id=result.token_id,
                    logprobs=result.logprobs,
                    prompt_logprobs=self._prompt_logprobs(
                        row, hidden_RE[want.first : want.first + want.prompt]
                    ),
                )
            results.append(result)
        return tuple(results)

    def _sample(self, rows: list[Row], logits_RV: torch.Tensor) -> list[RowResult]:
        """Draw the next token of each row from its logits."""
        states = [self._slots.state(row.slot) for row in rows]
        sampling_rows = self._sampling_rows(rows, states)
        failures = self._blank(
            ~torch.isfinite(logits_RV.amax(dim=-1)), logits_RV, "the logits are not finite"
        )
        tops = [params.logprobs for params in sampling_rows.params]
        raw_RV = logits_RV.clone() if any(top is not None for top in tops) else None
        processed = False
        for processor in self._processors:
            chosen = [r for r, state in enumerate(states) if processor in state.processors]
            if chosen:
                self._process(processor, logits_RV, sampling_rows, chosen)
                processed = True
        if processed:
            barred_R = logits_RV.amax(dim=-1) == float("-inf")
            failures |= self._blank(barred_R, logits_RV, "its parameters bar every token")
        tokens = self._sampler.sample(logits_RV, sampling_rows).tolist()
        logprobs: list[TokenLogprobs | None] = [None] * len(rows)
        if raw_RV is not None:
            logprobs = token_logprobs(raw_RV, tokens, tops)
        for row, token in zip(rows, tokens, strict=True):
            self._slots.tokens[row.slot, row.start + row.count] = token
        return [
            RowResult(error=f"{row.sequence_id}: at position {row.start + row.count} {failures[r]}")
            if r in failures
            else RowResult(token_id=token, logprobs=logprob)
            for r, (row, token, logprob) in enumerate(zip(rows, tokens, logprobs, strict=True))
        ]

    @staticmethod
    def _blank(failed_R: torch.Tensor, logits_RV: torch.Tensor, why: str) -> dict[int, str]:
        """Make rows that failed harmless to those who come after; returns why, by row."""
        failed = failed_R.nonzero()[:, 0].tolist()
        if failed:
            logits_RV[failed] = 0.0
        return dict.fromkeys(failed, why)

    @staticmethod
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

    def _sampling_rows(self, rows: list[Row], states: list[SlotState]) -> SamplingRows:
        positions = tuple(row.start + row.count for row in rows)
        return SamplingRows(
            params=tuple(state.params for state in states),
            seeds=tuple(state.seed for state in states),
            positions=positions,
            num_prompt=tuple(state.num_prompt for state in states),
            history=tuple(
                self._slots.history(row.slot, position) for row, position in zip(rows, positions, strict=True)
            ),
            eos_token_ids=self._model.info.eos_token_ids,
        )

    def _prompt_logprobs(self, row: Row, hidden_RE: torch.Tensor) -> tuple[TokenLogprobs, ...]:
        """Log probabilities of the prompt tokens that follow the row's positions."""
        top = self._slots.state(row.slot).params.prompt_logprobs
        following = self._slots.tokens[row.slot, row.start + 1 : row.start + 1 + hidden_RE.shape[0]].tolist()
        results: list[TokenLogprobs] = []
        for first in range(0, len(following), _LOGPROB_ROWS):
            tokens = following[first : first + _LOGPROB_ROWS]
            logits_RV = self._model.logits(hidden_RE[first : first + _LOGPROB_ROWS])
            for logprobs in token_logprobs(logits_RV, tokens, [top] * len(tokens)):
                assert logprobs is not None
                results.append(logprobs)
        return tuple(results)
