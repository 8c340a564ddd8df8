"""Embeddings and scores: whole texts in, vectors or relevance out."""
