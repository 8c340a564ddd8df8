"""What a client may know of the model that an engine serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.server.client import ModelCard, ModelKind

if TYPE_CHECKING:
    from quire.embedding.embedder import Embedder
    from quire.engine.engine import Engine
    from quire.run import Run


def card_of(run: Run, engine: Engine) -> ModelCard:
    """The card of the model that `engine`, built by `run`, serves."""
    return ModelCard(
        name=run.config.model,
        path=str(run.checkpoint.path),
        kind=ModelKind.GENERATE,
        max_model_tokens=engine.max_model_tokens,
        vocab_size=engine.info.vocab_size,
        eos_token_ids=engine.info.eos_token_ids,
    )


def embedding_card_of(run: Run, embedder: Embedder) -> ModelCard:
    """The same for a model of vectors or scores."""
    return ModelCard(
        name=run.config.model,
        path=str(run.checkpoint.path),
        kind=ModelKind.RERANK if embedder.scores else ModelKind.EMBED,
        max_model_tokens=embedder.max_tokens,
        vocab_size=embedder.info.vocab_size,
        eos_token_ids=embedder.info.eos_token_ids,
    )
