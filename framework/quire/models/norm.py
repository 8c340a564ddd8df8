"""The decoder's norms, bound to their weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from quire.interfaces.ops import Ops
    from quire.models.spec import DecoderSpec
    from quire.models.weights import Weights

# (x, residual_TE=None) -> normed x, as Ops.rms_norm
Norm = Callable[..., "torch.Tensor"]


def load_norm(name: str, *, spec: DecoderSpec, weights: Weights, ops: Ops) -> Norm:
    """`ops.rms_norm` with the weight of that name; a partial, because it costs no Python frame a call."""
    return partial(
        ops.rms_norm, weight_E=weights.tensor(name), eps=spec.norm_eps, unit_offset=spec.unit_offset_norms
    )
