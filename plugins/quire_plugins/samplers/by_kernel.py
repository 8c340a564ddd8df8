"""From the rows' parameters to one launch of the sampling kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.errors import MissingCapability
from quire.interfaces.sampler import SamplingRows
from quire_plugins.samplers.standard import float32_temperature

if TYPE_CHECKING:
    import torch


def sample_by_kernel(logits_RV: torch.Tensor, rows: SamplingRows) -> torch.Tensor:
    """Token ids, int64 [R], of `quire_kernels.triton.sample_tokens`. Nothing waits for the GPU."""
    import numpy as np
    import torch

    from quire.runtime.staging import to_device

    try:
        from quire_kernels.triton import sample_tokens
    except ModuleNotFoundError as error:
        raise MissingCapability(f"sampler=standard on a GPU: {error}; temperature=0 needs none") from None

    vocab = logits_RV.shape[1]
    params = rows.params
    arrays = {
        "temperatures_R": np.array(
            [float32_temperature(p.temperature) if p.temperature > 0 else 0 for p in params], np.float32
        ),
        "top_ks_R": np.array([vocab if p.top_k is None else min(p.top_k, vocab) for p in params], np.int32),
        "top_ps_R": np.array([p.top_p for p in params], np.float64),
        "min_ps_R": np.array([p.min_p for p in params], np.float64),
        "seeds_R": np.array(rows.seeds, np.uint64).view(np.int64),
        "positions_R": np.array(rows.positions, np.int64),
    }
    tensors = dict(zip(arrays, to_device([*arrays.values()], logits_RV.device), strict=True))
    tokens_R = torch.empty(len(params), dtype=torch.int64, device=logits_RV.device)
    sample_tokens(logits_RV, tokens_R, **tensors)
    return tokens_R
