"""Rows for samplers and logits processors, without a runner."""

from __future__ import annotations

from collections.abc import Sequence

from quire.engine.request import SamplingParams
from quire.interfaces.sampler import SamplingRows


def make_rows(
    params: Sequence[SamplingParams],
    *,
    seeds: Sequence[int] | None = None,
    histories: Sequence[Sequence[int]] | None = None,
    num_prompt: Sequence[int] | None = None,
    eos_token_ids: tuple[int, ...] = (),
) -> SamplingRows:
    """One row for each of `params`; by default with seeds 0, 1, ... and a prompt of one token, 0."""
    import numpy as np

    histories = histories if histories is not None else [[0]] * len(params)
    return SamplingRows(
        params=tuple(params),
        seeds=tuple(seeds if seeds is not None else range(len(params))),
        positions=tuple(len(history) for history in histories),
        num_prompt=tuple(num_prompt if num_prompt is not None else [1] * len(params)),
        history=tuple(np.array(history, dtype=np.int32) for history in histories),
        eos_token_ids=eos_token_ids,
    )
