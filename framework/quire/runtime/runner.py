"""The runner: a plan in, tokens out. It owns the KV tensors and the persistent batch.

On a GPU a step is launched before the host knows the tokens of the one before: they stay on the device, where
the next step finds them, and come to the host meanwhile.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch

from quire.engine.laps import Laps
from quire.engine.plan import COPY_PHASE, CopiedBytes, Row, StepPlan, StepResult
from quire.interfaces.allocator import KVLayout
from quire.interfaces.attention import AttentionBackend
from quire.interfaces.executor import OutOfDeviceMemory
from quire.interfaces.kv_cache import LayerCache
from quire.interfaces.sampler import LogitsProcessor, Sampler
from quire.models.model import Model
from quire.runtime.batch import Batch
from quire.runtime.block_copier import BlockCopier
from quire.runtime.decode_graphs import Capture, DecodeGraphs, Ladder
from quire.runtime.inputs import StepArrays, batch_of, step_arrays
from quire.runtime.launched import Launched
from quire.runtime.layer_cache import cache_spec
from quire.runtime.logprobs import RowLogprobs, row_logprobs
from quire.runtime.machine import prefer_huge_pages
from quire.runtime.page_ahead import PageAhead
from quire.runtime.readback import Readback
from quire.runtime.slots import Slots
from quire.runtime.staging import to_device
from quire.runtime.token_draw import TokenDraw

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
        kv_dtype: str,
        max_sequences: int,
        capture: Capture | None = None,
    ) -> None:
        """With `capture`, decoding steps are replayed from graphs, which model and attention must allow."""
        self._model = model
        self._attention = attention
        self._block_size = layout.block_size
        self._device = device
        ranked = tuple(sorted(processors, key=lambda processor: processor.rank))
        self._slots = Slots(
            max_sequences=max_sequences,
            max_tokens=layout.max_tokens,
            table_widths=tuple(layout.blocks_for(layout.max_tokens) for _ in layout.groups),
            processors=ranked,
        )
        self._draw = TokenDraw(
            sampler=sampler,
            processors=ranked,
            slots=self._slots,
            eos_token_ids=model.info.eos_token_ids,
        )
        self._group_layers = tuple(model.layers[group.layers[0]] for group in layout.groups)
        self._groups = tuple(layer.group for layer in model.layers)
        """By layer: its KV group."""
        self._caches = tuple(self._allocate(layout, layer.group, dtype, kv_dtype) for layer in model.layers)
        self._copier = BlockCopier(
            caches=self._caches,
            groups=self._groups,
            host_blocks=layout.host_blocks,
            device=device,
        )
        self._sampled = torch.zeros(max_sequences, dtype=torch.int64, device=device)
        """By slot: the token sampled last."""
        self._latest: Launched | None = None
        self._pages: PageAhead | None = None
        self._graphs = None
        if capture is not None:
            self._graphs = DecodeGraphs(
                capture=capture,
                compute=self._decode,
                ladder=Ladder(max_sequences=max_sequences, max_width=layout.blocks_for(layout.max_tokens)),
                max_tokens=layout.max_tokens,
                block_size=layout.block_size,
                device=device,
            )

    def _allocate(self, layout: KVLayout, group: int, dtype: torch.dtype, kv_dtype: str) -> LayerCache:
        spec = cache_spec(
            self._attention,
            layout.groups[group],
            num_blocks=layout.num_blocks[group],
            block_size=layout.block_size,
            dtype=dtype,
            kv_dtype=kv_dtype,
        )
        cache = spec.allocate(self._device)
        if self._device.type == "cpu":
            for tensor in cache.tensors():
                prefer_huge_pages(tensor.data_ptr(), tensor.nbytes)
        return cache

    def write_caches(self) -> None:
        """Write zeros to all KV memory, for which the system then has found pages."""
        for cache in self._caches:
            for tensor in cache.tensors():
                tensor.zero_()

    def find_pages_ahead(self) -> None:
        """On a CPU: from now on a thread has the system find pages for KV memory before steps use it."""
        self._pages = PageAhead(caches=self._caches, groups=self._groups, block_size=self._block_size)
        weakref.finalize(self, self._pages.stop)  # of a runner that nobody closed

    def close(self) -> None:
        """End the thread, if there is one: KV memory may be given back then. Idempotent."""
        if self._pages is not None:
            self._pages.close()

    def run(self, plan: StepPlan) -> StepResult:
        """Compute one step. Rows with logits that are not finite come back as errors, the others go on."""
        return self.launch(plan).result()

    @torch.inference_mode()
    def launch(self, plan: StepPlan) -> Launched:
        """Queue the kernels of one step. Raises OutOfDeviceMemory if it needs more than there is."""
        laps = Laps()
        copied = CopiedBytes()
        if plan.copies:
            copied = self._copier.run(plan.copies)
            laps.lap(COPY_PHASE)
        for row in plan.rows:
            self._slots.apply(row)
        try:
            self._latest = self._compute(plan, laps, copied)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
        else:
            return self._latest
        if self._device.type == "cuda":
            torch.cuda.empty_cache()  # leaving `except` has let go of the step's own tensors
        raise OutOfDeviceMemory(f"out of memory on {self._device}: {reason}")

    def _compute(self, plan: StepPlan, laps: Laps, copied: CopiedBytes) -> Launched:
        sampling = [row for row in plan.rows if row.samples]
        if self._latest is not None and self._draw.reads_history(sampling):
            self._latest.settle()
        wanted, logit_rows = self._wanted(plan)
        arrays = step_arrays(plan, self._slots, logit_rows, block_size=self._block_size)
        if self._pages is not None:
            self._pages.follow(arrays.slots_GT)
        laps.lap("batch")
        readback = Readback(self._device)
        prompts: dict[int, list[RowLogprobs]] = {}
        if self._graphs is not None and self._graphs.serves(plan.rows):
            logits_RV, slots_R = self._graphs.logits(arrays)
            laps.lap("forward")
        else:
            hidden_RE, slots_R = self._forward(arrays, laps)
            for index, (row, want) in enumerate(zip(plan.rows, wanted, strict=True)):
                if want.prompt:
                    rows_RE = hidden_RE[want.first : want.first + want.prompt]
                    prompts[index] = self._prompt_logprobs(row, rows_RE, readback)
            at = [
                want.first + want.prompt for row, want in zip(plan.rows, wanted, strict=True) if row.samples
            ]
            if len(at) < hidden_RE.shape[0]:
                hidden_RE = hidden_RE[at]
            logits_RV = self._model.logits(hidden_RE) if at else None
            laps.lap("logits")
        drawn = None
        if logits_RV is not None:
            drawn = self._draw.tokens(sampling, logits_RV, self._sampled, slots_R, readback)
        readback.seal()
        laps.lap("sample")
        return Launched(
            plan=plan,
            slots=self._slots,
            drawn=drawn,
            prompts=prompts,
            readback=readback,
            laps=laps,
            copied=copied,
        )

    def _forward(self, arrays: StepArrays, laps: Laps) -> tuple[torch.Tensor, torch.Tensor]:
        """(what the model makes of the step, slots of the rows that sample)."""
        batch, slots_R = batch_of(
            to_device(arrays.all(), self._device),
            host_query_starts=arrays.query_starts_S1,
            host_seq_lens=arrays.seq_lens_S,
            block_size=self._block_size,
        )
        if (arrays.token_ids_T < 0).any():
            batch = self._known(batch)
        laps.lap("batch")
        metadata = self._attention.prepare(batch, self._group_layers)
        laps.lap("attention")
        hidden_RE = self._model.forward(batch, self._caches, metadata)
        laps.lap("forward")
        return hidden_RE, slots_R

    def _decode(self, batch: Batch) -> torch.Tensor:
        """Logits of a decoding step, by launches that a graph may repeat."""
        batch = self._known(batch)
        metadata = self._attention.prepare(batch, self._group_layers)
        return self._model.logits(self._model.forward(batch, self._caches, metadata))

    def _known(self, batch: Batch) -> Batch:
        """With the tokens in place that so far only the device knows."""
        ids_T = batch.token_ids_T
        sampled_T = self._sampled[(-1 - ids_T).clamp_(min=0)]
        return replace(batch, token_ids_T=torch.where(ids_T < 0, sampled_T, ids_T))

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

    def _prompt_logprobs(self, row: Row, hidden_RE: torch.Tensor, readback: Readback) -> list[RowLogprobs]:
        """Log probabilities of the prompt tokens that follow the row's positions, some rows at a time."""
        top = self._slots.state(row.slot).params.prompt_logprobs
        following = self._slots.tokens[row.slot, row.start + 1 : row.start + 1 + hidden_RE.shape[0]]
        tokens_R = torch.from_numpy(following.astype(np.int64)).to(self._device)
        return [
            row_logprobs(self._model.logits(part_RE), part_R, [top] * len(part_R), readback)
            for part_RE, part_R in zip(
                hidden_RE.split(_LOGPROB_ROWS), tokens_R.split(_LOGPROB_ROWS), strict=True
            )
        ]


def _is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Whether torch or numpy could not get memory; for that of a CPU torch has no class of its own."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
