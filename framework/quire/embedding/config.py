"""How texts become vectors, `embedding.*` on the command line."""

from __future__ import annotations

from dataclasses import dataclass

from quire.errors import UserError
from quire.models.encoder_spec import Pooling


@dataclass
class EmbeddingConfig:
    """What is null comes from the model's own files: those that sentence-transformers writes."""

    pooling: Pooling | None = None
    """How hidden states become one vector: mean, cls (the first), last. Without files: mean for an encoder,
    last for a decoder."""
    normalize: bool | None = None
    """Scale vectors to length 1. Without files: true."""
    max_tokens: int | None = None
    """Longest text, in tokens; null: the model's own limit."""
    batch_tokens: int = 8192
    """Tokens computed at once; a longer text is computed alone."""

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise UserError(f"embedding.max_tokens={self.max_tokens}: must be at least 1")
        if self.batch_tokens < 1:
            raise UserError(f"embedding.batch_tokens={self.batch_tokens}: must be at least 1")
