"""What the runner needs of a model, native or not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from quire.interfaces.attention import AttentionLayer
    from quire.interfaces.kv_cache import LayerCache
    from quire.runtime.batch import Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInfo:
    """Facts of a checkpoint that the engine, the KV cache and the front ends need, read without weights."""

    name: str
    vocab_size: int
    max_tokens: int
    """The longest sequence that the positions allow."""
    eos_token_ids: tuple[int, ...]


class Model(ABC):
    """A causal language model that reads and writes KV through the attention backend it was built with."""

    info: ModelInfo
    layers: tuple[AttentionLayer, ...]
    """Attention of each layer in order; `layer.group` indexes the KV groups."""
    dtype: torch.dtype
    """Of hidden states, and of keys and values."""
    uncapturable: str | None = "what it asks the device is not known"
    """Why a CUDA graph cannot repeat `forward` and `logits`; None where they launch the same whatever a batch
    of that shape holds, and ask the device nothing."""

    @abstractmethod
    def forward(self, batch: Batch, caches: tuple[LayerCache, ...], metadata: Any) -> torch.Tensor:
        """What `logits` takes for `batch.logit_rows_R`: hidden states [R, E] after the final norm, mostly.

        A model whose head is not open to us returns its logits [R, V] here already. R may be 0.
        """

    @abstractmethod
    def logits(self, hidden_RE: torch.Tensor) -> torch.Tensor:
        """Logits [R, V] in float32 of any rows of what `forward` returned; softcap and scaling included."""
