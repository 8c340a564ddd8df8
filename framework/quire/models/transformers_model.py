"""Any causal language model of transformers, with our attention and KV memory in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from quire.models.model import Model, ModelInfo
from quire.models.transformers_attention import AttentionProbe, AttentionSlot, AttentionStep

if TYPE_CHECKING:
    from quire.interfaces.attention import AttentionBackend, AttentionLayer
    from quire.interfaces.kv_cache import LayerCache
    from quire.runtime.batch import Batch


class TransformersModel(Model):
    """Its head may do more than a product (scales, caps, projections), so it stays closed: `forward` returns
    the logits of the rows asked for.
    """

    uncapturable = "models that run through transformers may ask the device anything"

    def __init__(
        self,
        *,
        network: Any,
        slot: AttentionSlot,
        info: ModelInfo,
        layers: tuple[AttentionLayer, ...],
        backend: AttentionBackend,
        dtype: torch.dtype,
    ) -> None:
        self.info = info
        self.layers = layers
        self.dtype = dtype
        self._network = network
        self._slot = slot
        self._backend = backend

    def forward(self, batch: Batch, caches: tuple[LayerCache, ...], metadata: Any) -> torch.Tensor:
        step = AttentionStep(
            layers=self.layers, backend=self._backend, batch=batch, caches=caches, metadata=metadata
        )
        return call_network(
            self._network, self._slot, step, batch.token_ids_T, batch.positions_T, batch.logit_rows_R
        )

    def logits(self, hidden_RE: torch.Tensor) -> torch.Tensor:
        return hidden_RE.float()


def call_network(
    network: Any,
    slot: AttentionSlot,
    step: AttentionStep | AttentionProbe,
    token_ids_T: torch.Tensor,
    positions_T: torch.Tensor,
    logit_rows_R: torch.Tensor,
) -> torch.Tensor:
    """Logits [R, V] of one packed step."""
    slot.step = step
    try:
        logits_RV: torch.Tensor = network(
            input_ids=token_ids_T[None],
            position_ids=positions_T[None],
            use_cache=False,
            logits_to_keep=logit_rows_R,
        ).logits[0]
    finally:
        slot.step = None
    return logits_RV
