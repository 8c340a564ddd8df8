"""A model that turns whole texts into hidden states: encoders, and decoders without their head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch

from quire.models.model import ModelInfo
from quire.runtime.batch import Batch

if TYPE_CHECKING:
    from quire.interfaces.kv_cache import KVCache
    from quire.models.decoder import Decoder
    from quire.models.encoder import Head
    from quire.models.packed_texts import PackedTexts


class TextModel(ABC):
    """Computes each text at once and remembers nothing of it."""

    info: ModelInfo
    hidden_size: int
    causal: bool
    """Whether a token sees only those before it."""
    device: torch.device
    token_types: int
    """How many parts of a pair it tells apart; 0 or 1: none."""
    head: Head | None
    """What scores a text or a pair, if the checkpoint has it."""

    @abstractmethod
    def states(self, texts: PackedTexts, rows_R: torch.Tensor) -> torch.Tensor:
        """The last hidden states [R, E], after the final norm, of the packed tokens `rows_R`."""


class DecoderStates(TextModel):
    """A native decoder, its attention kept within the packed texts (see `PackedAttention`)."""

    causal = True
    head = None
    token_types = 0

    def __init__(self, decoder: Decoder, *, hidden_size: int, device: torch.device) -> None:
        from quire.interfaces.kv_cache import KVCache

        self.info = decoder.info
        self.hidden_size = hidden_size
        self.device = device
        self._decoder = decoder
        empty = torch.empty(0)
        self._caches: tuple[KVCache, ...] = (KVCache(k=empty, v=empty),) * len(decoder.layers)

    def states(self, texts: PackedTexts, rows_R: torch.Tensor) -> torch.Tensor:
        lengths = torch.tensor(texts.lengths, dtype=torch.int32)
        starts = torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
        batch = Batch(
            token_ids_T=texts.token_ids_T,
            positions_T=texts.positions_T,
            query_starts_S1=starts.to(self.device),
            seq_lens_S=lengths.to(self.device),
            tables_GSM=(),
            slots_GT=(),
            logit_rows_R=rows_R,
            host_query_starts_S1=starts,
            host_seq_lens_S=lengths,
            block_size=1,
        )
        return self._decoder.forward(batch, self._caches, texts.groups)
