"""The embedding engine: lists of token ids in, vectors or scores out, computed in batches of so many tokens.

Texts are sorted by length and packed without padding, so that a batch costs what its tokens cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from quire.errors import MissingCapability, UserError
from quire.models.encoder_spec import Pooling
from quire.models.packed_texts import PackedTexts, pack

if TYPE_CHECKING:
    import torch

    from quire.models.model import ModelInfo
    from quire.models.text_model import TextModel

TokenLists = Sequence[Sequence[int]]


class Embedder:
    """Computes one call at a time, in the caller's thread; a call's memory is bounded by `batch_tokens`.

    A model either embeds texts or, with a head, scores texts and pairs (`scores`): the other is refused.
    """

    def __init__(
        self,
        *,
        model: TextModel,
        pooling: Pooling,
        normalize: bool,
        max_tokens: int,
        batch_tokens: int,
        sigmoid: bool = False,
    ) -> None:
        """`sigmoid`: scores are probabilities rather than logits."""
        self.info: ModelInfo = model.info
        self.dimension = model.hidden_size
        self.max_tokens = max_tokens
        """Longest text, or pair, in tokens."""
        self.scores = model.head is not None
        self.normalize = normalize
        self.pooling = pooling
        self._model = model
        self._batch_tokens = batch_tokens
        self._sigmoid = sigmoid

    def embed(
        self, token_ids: TokenLists, *, dimensions: int | None = None, truncate: bool = False
    ) -> np.ndarray:
        """Vectors [N, D] in float32, in the order given.

        `dimensions` keeps so many of the first ones (Kusupati et al., Matryoshka, 2022), normalised again
        where vectors are normalised. A text that is too long is refused, or cut at its end with `truncate`.
        Raises UserError.
        """
        if self.scores:
            raise MissingCapability(
                f"model={self.info.name}: is a cross-encoder, which scores texts and makes no embeddings"
            )
        self.check_dimensions(dimensions)
        texts = self._checked(token_ids, truncate)
        vectors_ND = np.empty((len(texts), dimensions or self.dimension), dtype=np.float32)
        for members in self._batches(texts):
            vectors_ND[members] = self._vectors([texts[i] for i in members], dimensions)
        return vectors_ND

    def score(
        self, token_ids: TokenLists, type_ids: TokenLists | None = None, *, truncate: bool = False
    ) -> np.ndarray:
        """Scores [N] in float32 of texts, or of pairs joined as the model's tokenizer joins them.

        `type_ids` say which part of its pair each token is in. Raises UserError.
        """
        head = self._model.head
        if head is None:
            raise MissingCapability(
                f"model={self.info.name}: makes embeddings and has no head that scores; compare its vectors"
            )
        if head.labels != 1:
            raise UserError(
                f"model={self.info.name}: its head has {head.labels} labels: a score comes from a head of 1"
            )
        texts = self._checked(token_ids, truncate)
        types = None if type_ids is None else self._checked_types(type_ids, token_ids)
        scores_N = np.empty(len(texts), dtype=np.float32)
        for members in self._batches(texts):
            some_types = None if types is None else [types[i] for i in members]
            scores_N[members] = self._logits([texts[i] for i in members], some_types)
        return 1 / (1 + np.exp(-scores_N)) if self._sigmoid else scores_N

    def check_dimensions(self, dimensions: int | None) -> None:
        """Raise UserError unless vectors can be cut to so many dimensions."""
        if dimensions is not None and not 1 <= dimensions <= self.dimension:
            raise UserError(
                f"dimensions={dimensions}: must be 1 to {self.dimension}, what the model computes"
            )

    def _vectors(self, texts: TokenLists, dimensions: int | None) -> np.ndarray:
        import torch
        from torch.nn import functional

        with torch.inference_mode():
            packed = pack(texts, None, device=self._model.device)
            pooled_SD = self._pooled(packed, self.pooling).float()[:, :dimensions]
            if self.normalize:
                pooled_SD = functional.normalize(pooled_SD, dim=-1)
            return pooled_SD.cpu().numpy()

    def _logits(self, texts: TokenLists, types: TokenLists | None) -> np.ndarray:
        import torch

        head = self._model.head
        assert head is not None
        with torch.inference_mode():
            packed = pack(texts, types, device=self._model.device)
            return head(self._pooled(packed, head.pooling))[:, 0].cpu().numpy()

    def _pooled(self, texts: PackedTexts, pooling: Pooling) -> torch.Tensor:
        """[S, E]; only rows that take part go through the model's last layer."""
        import torch

        ends_S = texts.lengths_S.cumsum(0)
        if pooling is Pooling.cls:
            return self._model.states(texts, ends_S - texts.lengths_S)
        if pooling is Pooling.last:
            return self._model.states(texts, ends_S - 1)
        every_T = torch.arange(texts.num_tokens, device=self._model.device)
        states_TE = self._model.states(texts, every_T)
        owner_T = torch.repeat_interleave(texts.lengths_S, output_size=texts.num_tokens)
        sums_SE = states_TE.new_zeros((len(texts.lengths), states_TE.shape[1]), dtype=torch.float32)
        sums_SE.index_add_(0, owner_T, states_TE.float())
        return (sums_SE / texts.lengths_S[:, None]).to(states_TE.dtype)

    def _batches(self, texts: TokenLists) -> Iterator[list[int]]:
        """Indices of the texts of each batch, in order of length, the longest last."""
        members: list[int] = []
        tokens = 0
        for index in sorted(range(len(texts)), key=lambda i: len(texts[i])):
            if members and tokens + len(texts[index]) > self._batch_tokens:
                yield members
                members, tokens = [], 0
            members.append(index)
            tokens += len(texts[index])
        if members:
            yield members

    def check(self, token_ids: Sequence[int]) -> None:
        """Raise UserError, which says why, unless this text or pair can be computed as it is."""
        if not len(token_ids):
            raise UserError("it has no tokens")
        if len(token_ids) > self.max_tokens:
            raise UserError(
                f"{len(token_ids)} tokens are more than {self.max_tokens}, the most that {self.info.name} "
                "embeds or scores; truncate=true cuts it there"
            )
        for token in (min(token_ids), max(token_ids)):
            if not 0 <= token < self.info.vocab_size:
                raise UserError(f"token id {token} is outside the vocabulary of {self.info.vocab_size}")

    def _checked(self, token_ids: TokenLists, truncate: bool) -> list[Sequence[int]]:
        texts = [ids[: self.max_tokens] if truncate else ids for ids in token_ids]
        for index, ids in enumerate(texts):
            try:
                self.check(ids)
            except UserError as error:
                raise UserError(f"text {index}: {error}") from None
        return texts

    def _checked_types(self, type_ids: TokenLists, token_ids: TokenLists) -> list[Sequence[int]] | None:
        known = self._model.token_types
        for index, (types, ids) in enumerate(zip(type_ids, token_ids, strict=True)):
            if len(types) != len(ids):
                raise UserError(f"text {index}: has {len(ids)} tokens, but {len(types)} token types")
            if known and (min(types) < 0 or max(types) >= known):
                raise UserError(f"text {index}: token type {max(types)}: must be 0 to {known - 1}")
        if not known:  # the model tells no parts of a pair apart
            return None
        return [types[: self.max_tokens] for types in type_ids]
