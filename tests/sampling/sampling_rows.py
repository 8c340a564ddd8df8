"""Rows to sample from, with everything that a test doesn't name set to something plain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quire.engine.request import SamplingParams
from quire.interfaces.sampler import SamplingRows


def make_rows(
    params: Sequence[SamplingParams],
    *,
    seeds: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    histories: Sequence[Sequence[int]] | None = None,
    num_prompt: Sequence[int] | None = None,
    eos_token_ids: tuple[int, ...] = (),
) -> SamplingRows:
    """Rows with these parameters; positions follow from the histories where those are given."""
    count = len(params)
    if histories is None:
        histories = [[0] * position for position in positions or range(1, count + 1)]
    return SamplingRows(
        params=tuple(params),
        seeds=tuple(seeds or range(count)),
        positions=tuple(len(history) for history in histories),
        num_prompt=tuple(num_prompt or (len(history) for history in histories)),
        history=tuple(np.array(history, dtype=np.int32) for history in histories),
        eos_token_ids=eos_token_ids,
    )
