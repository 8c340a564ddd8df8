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

# (x, residual_TE=None) -> normed x, as Ops.rms_norm and Ops.layer_norm
Norm = Callable[..., "torch.Tensor"]


def load_norm(name: str, *, spec: DecoderSpec, weights: Weights, ops: Ops) -> Norm:
    """The norm `name` with its weight, of the kind that `spec` says; a partial, because it costs no Python
    frame a call.
    """
    weight_E = weights.tensor(f"{name}.weight")
    if spec.layer_norms:
        bias_E = weights.tensor(f"{name}.bias") if spec.norm_bias else None
        return partial(ops.layer_norm, weight_E=weight_E, bias_E=bias_E, eps=spec.norm_eps)
    return partial(ops.rms_norm, weight_E=weight_E, eps=spec.norm_eps, unit_offset=spec.unit_offset_norms)
