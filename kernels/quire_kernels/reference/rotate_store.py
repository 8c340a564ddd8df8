"""Norms of heads, rotary embedding and the cache store, one after another."""

import torch
from torch import Tensor

from quire_kernels.reference.cache import store_kv
from quire_kernels.reference.norm import rms_norm
from quire_kernels.reference.rotary import rotary


def rotate_store_kv(
    q_THD: Tensor,
    k_TKD: Tensor,
    v_TKD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    slots_T: Tensor,
    positions_T: Tensor,
    cos_sin_PR: Tensor,
    *,
    q_norm_D: Tensor | None = None,
    k_norm_D: Tensor | None = None,
    eps: float = 1e-6,
    unit_offset: bool = False,
    interleaved: bool = False,
    k_scales_NKB: Tensor | None = None,
    v_scales_NKB: Tensor | None = None,
) -> None:
    """q in place, k on its way to the cache; k itself stays."""
    k_TKD = k_TKD.clone(memory_format=torch.contiguous_format)
    for x, weight_D in ((q_THD, q_norm_D), (k_TKD, k_norm_D)):
        if weight_D is not None:
            rms_norm(x, weight_D, x, eps=eps, unit_offset=unit_offset)
    rotary(q_THD, k_TKD, positions_T, cos_sin_PR, interleaved=interleaved)
    store_kv(k_TKD, v_TKD, k_cache, v_cache, slots_T, k_scales_NKB=k_scales_NKB, v_scales_NKB=v_scales_NKB)
