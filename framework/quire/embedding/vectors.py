"""Texts to vectors and scores in one process: a model with its tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from quire.run import Run


class Vectors:
    """Loads the model of a run. Raises UserError if it generates text."""

    def __init__(self, run: Run) -> None:
        self.embedder = run.embedder()
        self.texts = run.embedding_texts(self.embedder.max_tokens)

    def embed(
        self,
        texts: Iterable[str | Sequence[int]],
        *,
        prompt_name: str | None = None,
        dimensions: int | None = None,
        truncate: bool = False,
    ) -> np.ndarray:
        """Vectors [N, D], float32; see `LLM.embed`."""
        token_ids = [
            self.texts.encode(text, prompt_name=prompt_name, truncate=truncate)
            if isinstance(text, str)
            else text
            for text in texts
        ]
        return self.embedder.embed(token_ids, dimensions=dimensions, truncate=truncate)

    def score(self, query: str, documents: Iterable[str], *, truncate: bool = False) -> np.ndarray:
        """Scores [N], float32; see `LLM.score`."""
        if self.embedder.scores:
            pairs = [self.texts.join(query, document, truncate=truncate) for document in documents]
            return self.embedder.score([pair.token_ids for pair in pairs], [pair.type_ids for pair in pairs])
        (query_D,) = _unit(self.embed([query], prompt_name="query", truncate=truncate))
        return _unit(self.embed(documents, prompt_name="document", truncate=truncate)) @ query_D


def _unit(vectors_ND: np.ndarray) -> np.ndarray:
    """Of length 1; a vector of zeros stays one."""
    import numpy as np

    lengths_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return vectors_ND / np.maximum(lengths_N1, np.finfo(np.float32).tiny)
