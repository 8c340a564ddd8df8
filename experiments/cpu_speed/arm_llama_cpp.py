"""One arm: llama.cpp with 8-bit weights (q8_0), sixteen sequences decoded together.

Its Python package batches only through its C interface: this is the loop of its own server, a slot for each
sequence, prompts in chunks beside those that decode. KV memory is one part a sequence, its default: with all
in one (kv_unified) sixteen sequences are a fifth slower.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

from arm import Serve, run_arm

SEQUENCES = 16
BATCH = 512
"""Tokens of one call."""
CONTEXT = 2048
"""Tokens of one sequence."""


class Slot:
    """One sequence on its way: what of its prompt is still to come, and what it has got."""

    def __init__(self, index: int, request: dict) -> None:
        self.index = index
        self.coming = list(request["prompt"])
        self.position = 0
        self.left = request["output_tokens"]
        self.row: int | None = None
        """Where its logits are in the batch under way."""


def load(arguments: argparse.Namespace) -> Serve:
    import llama_cpp as cpp
    import numpy as np

    threads = len(os.sched_getaffinity(0))
    cpp.llama_backend_init()
    model = cpp.llama_model_load_from_file(arguments.model.encode(), cpp.llama_model_default_params())
    params = cpp.llama_context_default_params()
    params.n_ctx, params.n_seq_max = SEQUENCES * CONTEXT, SEQUENCES
    params.n_batch = params.n_ubatch = BATCH
    params.n_threads = params.n_threads_batch = threads
    vocab_size = cpp.llama_vocab_n_tokens(cpp.llama_model_get_vocab(model))
    context = cpp.llama_init_from_model(model, params)
    memory = cpp.llama_get_memory(context)
    batch = cpp.llama_batch_init(BATCH, 0, 1)

    def put(slot: Slot, sequence: int, tokens: list[int]) -> None:
        for token in tokens:
            row = batch.n_tokens
            batch.token[row], batch.pos[row] = token, slot.position
            batch.n_seq_id[row], batch.seq_id[row][0], batch.logits[row] = 1, sequence, 0
            slot.position += 1
            batch.n_tokens += 1
        if not slot.coming:
            slot.row = batch.n_tokens - 1
            batch.logits[slot.row] = 1

    def serve(requests: list[dict]) -> Iterator[tuple[int, int]]:
        waiting = [Slot(index, request) for index, request in enumerate(requests)][::-1]
        slots: list[Slot | None] = [None] * SEQUENCES
        while waiting or any(slots):
            batch.n_tokens = 0
            for sequence, slot in enumerate(slots):
                if slot is None and waiting:
                    slots[sequence] = waiting.pop()
            living = [(sequence, slot) for sequence, slot in enumerate(slots) if slot is not None]
            for sequence, slot in sorted(
                living, key=lambda each: len(each[1].coming)
            ):  # those that decode first
                room = BATCH - batch.n_tokens
                tokens, slot.coming = slot.coming[:room], slot.coming[room:]
                slot.row = None
                if tokens:
                    put(slot, sequence, tokens)
            assert cpp.llama_decode(context, batch) == 0
            for sequence, slot in living:
                if slot.row is None:
                    continue
                logits = np.ctypeslib.as_array(cpp.llama_get_logits_ith(context, slot.row), (vocab_size,))
                slot.coming = [int(logits.argmax())]
                slot.left -= 1
                yield slot.index, 1
                if not slot.left:
                    slots[sequence] = None
                    cpp.llama_memory_seq_rm(memory, sequence, -1, -1)

    return serve


if __name__ == "__main__":
    run_arm(load)
