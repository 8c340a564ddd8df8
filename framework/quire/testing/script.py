"""A language without a model: the next token is a function of the tokens so far.

Outputs are thereby known beforehand, and any token that went in wrongly, missing or twice changes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from quire.engine.request import Request, SamplingParams


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """Reads tokens one by one into a digest, and chooses the next token from it."""

    vocab_size: int

    def begin(self, params: SamplingParams, seed: int) -> int:
        """The digest of no tokens. As in a model, the seed matters only where tokens are drawn."""
        return seed if params.temperature > 0 else 0

    def read(self, digest: int, tokens: Iterable[int]) -> int:
        """The digest after `tokens` too (a linear congruential generator that the tokens disturb)."""
        for token in tokens:
            digest = (digest * 6364136223846793005 + 1442695040888963407 + token) % 2**64
        return digest

    def choose(self, digest: int) -> int:
        """The next token."""
        return (digest >> 33) % self.vocab_size

    def output(self, request: Request, *, seed: int, eos_token_ids: Sequence[int], limit: int) -> list[int]:
        """What a sample of `request` must come to, of at most `limit` tokens unless it declares fewer."""
        sampling, forced = request.sampling, request.forced_output_tokens
        limit = forced or min(limit, sampling.max_tokens or limit)
        ends = set(sampling.stop_token_ids) | (set() if sampling.ignore_eos else set(eos_token_ids))
        digest = self.read(self.begin(sampling, seed), request.prompt_token_ids)
        output: list[int] = []
        while len(output) < limit:
            token = self.choose(digest)
            output.append(token)
            digest = self.read(digest, [token])
            if token in ends and forced is None and len(output) >= sampling.min_tokens:
                break
        return output
