"""Our attention inside a transformers model.

transformers lets attention be a registered function (its AttentionInterface), which each layer calls with its
own q, k and v. What else a call needs, the step, it finds in a slot that all modules of one network share,
for not every model hands keyword arguments of its forward down to its layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from quire.errors import MissingCapability
from quire.interfaces.attention import AttentionLayer
from quire.interfaces.kv_cache import KVCache

if TYPE_CHECKING:
    import torch

    from quire.interfaces.attention import AttentionBackend
    from quire.interfaces.kv_cache import LayerCache
    from quire.runtime.batch import Batch

ATTENTION_NAME = "quire"
"""Under which transformers knows the function."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AttentionStep:
    """What a layer's call needs of the step."""

    layers: tuple[AttentionLayer, ...]
    backend: AttentionBackend
    batch: Batch
    caches: tuple[LayerCache, ...]
    metadata: Any

    def attend(
        self,
        module: Any,
        q_THD: torch.Tensor,
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        options: dict[str, Any],
    ) -> torch.Tensor:
        del options  # the same at every step: the probe has recorded them
        layer = self.layers[module.layer_idx]
        out_THD = q_THD.new_empty(q_THD.shape)
        cache = self.caches[layer.index]
        assert isinstance(cache, KVCache)
        self.backend.forward(layer, q_THD, k_TKD, v_TKD, cache, self.batch, self.metadata, out_THD)
        return out_THD


@dataclass(slots=True)
class AttentionProbe:
    """Stands in for a step, once, to see which layers attend and how. Raises MissingCapability for what our
    attention does not do.
    """

    layers: dict[int, AttentionLayer] = field(default_factory=dict[int, AttentionLayer])

    def attend(
        self,
        module: Any,
        q_THD: torch.Tensor,
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        options: dict[str, Any],
    ) -> torch.Tensor:
        index, heads, head_dim = module.layer_idx, *q_THD.shape[1:]
        if index in self.layers:
            raise MissingCapability(f"layer {index} attends more than once")
        if k_TKD.shape != v_TKD.shape or k_TKD.shape[2] != head_dim:
            raise MissingCapability(f"layer {index} has keys and values of different shapes")
        if options.get("is_causal") is False or getattr(module, "is_causal", True) is False:
            raise MissingCapability(f"layer {index} is not causal")
        sinks = options.get("s_aux")
        scale = options.get("scaling")
        self.layers[index] = AttentionLayer(
            index=index,
            group=0,
            heads=heads,
            kv_heads=k_TKD.shape[1],
            head_dim=head_dim,
            scale=head_dim**-0.5 if scale is None else float(scale),
            window=options.get("sliding_window"),
            softcap=options.get("softcap"),
            sinks_H=None if sinks is None else sinks.detach().float(),
        )
        return q_THD.new_zeros(q_THD.shape)


@dataclass(slots=True)
class AttentionSlot:
    """Where the layers of one network find the step under way."""

    step: AttentionStep | AttentionProbe | None = None


def install_slot(network: Any) -> AttentionSlot:
    """Let `network` use our attention: its layers will look for their step in the slot returned."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION_NAME, _attend)
    slot = AttentionSlot()
    for module in network.modules():
        if hasattr(module, "layer_idx"):
            module.quire_slot = slot
    return slot


def _attend(
    module: Any,
    query_1HTD: torch.Tensor,
    key_1KTD: torch.Tensor,
    value_1KTD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    if attention_mask is not None:  # transformers makes none for a function that it does not know
        raise MissingCapability(f"layer {module.layer_idx} has a mask, or biases, of its own")
    q_THD, k_TKD, v_TKD = (x[0].transpose(0, 1) for x in (query_1HTD, key_1KTD, value_1KTD))
    step = module.quire_slot.step
    return step.attend(module, q_THD, k_TKD, v_TKD, options)[None], None
