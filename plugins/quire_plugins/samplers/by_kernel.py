"""From the rows' parameters to one launch of a sampling kernel."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from quire.errors import MissingCapability
from quire.interfaces.sampler import SamplingRows
from quire_plugins.samplers.standard import float32_temperature

if TYPE_CHECKING:
    import torch


def sample_by_kernel(logits_RV: torch.Tensor, rows: SamplingRows) -> torch.Tensor:
    """Token ids, int64 [R], of `quire_kernels.triton.sample_tokens`. Nothing waits for the GPU."""
    import torch

    kernels = sampling_kernels("standard")
    tokens_R = torch.empty(len(rows.params), dtype=torch.int64, device=logits_RV.device)
    kernels.sample_tokens(logits_RV, tokens_R, **row_tensors(logits_RV, rows))
    return tokens_R


def sampling_kernels(sampler: str) -> ModuleType:
    """`quire_kernels.triton`, for the sampler of that name."""
    try:
        from quire_kernels import triton
    except ModuleNotFoundError as error:
        raise MissingCapability(f"sampler={sampler} on a GPU: {error}; temperature=0 needs none") from None
    return triton


def row_tensors(logits_RV: torch.Tensor, rows: SamplingRows) -> dict[str, torch.Tensor]:
    """What the kernels want to know of each row, under their names for it, where the logits are."""
    import numpy as np

    from quire.runtime.staging import to_device

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
    return dict(zip(arrays, to_device([*arrays.values()], logits_RV.device), strict=True))
