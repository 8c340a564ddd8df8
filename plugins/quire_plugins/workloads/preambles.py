"""What prompts begin with that others begin with too: system prompts, and documents that were looked up."""

from __future__ import annotations

from collections.abc import Iterator

from quire_plugins.workloads.conversations import pick
from quire_plugins.workloads.draws import stream


def preambles(
    *,
    seed: int,
    prefix_tokens: int,
    prefixes: int,
    documents: int,
    document_tokens: int,
    documents_each: int,
    popularity: float,
) -> Iterator[tuple[tuple[str, int], ...]]:
    """For each conversation, without end, names of texts with their tokens: one of the `prefixes`, then
    `documents_each` different ones of the `documents`.

    The k-th most popular is chosen with a chance like 1 / k ** popularity (Zipf); 0 makes all alike.
    """
    rng = stream(seed, "synthetic preambles")
    systems = [(f"system {k}", (k + 1.0) ** -popularity) for k in range(prefixes)]
    library = [(f"document {k}", (k + 1.0) ** -popularity) for k in range(documents)]
    while True:
        chosen: list[tuple[str, int]] = []
        if prefix_tokens:
            chosen.append((pick(rng, systems), prefix_tokens))
        names: set[str] = set()
        while len(names) < documents_each:
            name = pick(rng, library)
            if name not in names:
                names.add(name)
                chosen.append((name, document_tokens))
        yield tuple(chosen)
