"""From a checkpoint and options to an embedder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from quire.embedding.config import EmbeddingConfig
from quire.embedding.embedder import Embedder
from quire.embedding.recipe import Recipe
from quire.errors import UserError
from quire.models.encoder_spec import Pooling

if TYPE_CHECKING:
    from quire.models.checkpoint import Checkpoint
    from quire.models.text_model import TextModel

logger = logging.getLogger(__name__)

_ACTIVATIONS = {"Sigmoid": True, "Identity": False}


def make_embedder(
    model: TextModel, *, checkpoint: Checkpoint, recipe: Recipe, config: EmbeddingConfig
) -> Embedder:
    """Options go before the recipe, the recipe before what is usual. Raises UserError."""
    pooling, normalize = config.pooling or recipe.pooling, config.normalize
    if normalize is None:
        normalize = True if recipe.normalize is None else recipe.normalize
    if pooling is None:
        pooling = Pooling.last if model.causal else Pooling.mean
        if model.head is None:
            logger.info(
                "%s: no files of sentence-transformers say how to pool: embedding.pooling=%s, "
                "embedding.normalize=%s",
                checkpoint.name,
                pooling.value,
                str(normalize).lower(),
            )
    longest = model.info.max_tokens
    if config.max_tokens is not None and config.max_tokens > longest:
        raise UserError(
            f"embedding.max_tokens={config.max_tokens}: must be at most {longest}, the model's limit"
        )
    return Embedder(
        model=model,
        pooling=pooling,
        normalize=normalize,
        max_tokens=config.max_tokens or min(longest, recipe.max_tokens or longest),
        batch_tokens=config.batch_tokens,
        sigmoid=_has_sigmoid(checkpoint.config, model.head.labels if model.head is not None else 0),
    )


def _has_sigmoid(config: Mapping[str, Any], labels: int) -> bool:
    """Whether a cross-encoder's logit becomes a probability: as config.json says, or if there is but one.

    The rule is that of sentence-transformers, which writes the field, under an older name at first.
    """
    named = (config.get("sentence_transformers") or {}).get("activation_fn")
    named = named or config.get("sbert_ce_default_activation_function")
    if named is None:
        return labels == 1
    kind = str(named).rpartition(".")[2]
    if kind not in _ACTIVATIONS:
        raise UserError(f"config.json: activation_fn={named!r}: must be Sigmoid or Identity")
    return _ACTIVATIONS[kind]
