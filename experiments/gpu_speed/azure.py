"""The requests that every arm serves."""

from __future__ import annotations

from itertools import islice

import numpy as np
from checkpoint import MAX_TOKENS

from quire_plugins.workloads.trace_lengths import TRACES

AzureRequests = list[tuple[tuple[int, ...], int]]
"""Prompts, each with the length of its output."""


def azure_requests(count: int, *, vocab: int, dry: bool) -> AzureRequests:
    """Lengths as in Azure's trace of conversations, prompts with nothing in common.

    A dry run gets a few short ones.
    """
    rng = np.random.Generator(np.random.PCG64(0))
    if dry:
        lengths = [(int(rng.integers(4, 60)), int(rng.integers(2, 8))) for _ in range(count)]
    else:
        lengths = list(islice(TRACES["azure_conv"].draw(rng), count))
    return [
        (tuple(rng.integers(0, vocab, min(prompt, MAX_TOKENS - output)).tolist()), output)
        for prompt, output in lengths
    ]
