"""Which requests can be served at all. What can never fit is refused by name, with the numbers."""

from __future__ import annotations

from collections.abc import Iterable

from quire.engine.request import Request
from quire.errors import RequestRefused, UserError
from quire.interfaces.allocator import KVAllocator
from quire.interfaces.sampler import LogitsProcessor


def longest_sequence(allocator: KVAllocator, limit: int) -> int:
    """The most tokens, at most `limit`, that one sequence alone could hold in KV memory."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if allocator.fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


class Admission:
    """Checks requests against the model's length, the KV memory and the vocabulary."""

    def __init__(
        self,
        *,
        model_tokens: int,
        kv_tokens: int,
        vocab_size: int,
        processors: Iterable[LogitsProcessor],
        has_text: bool,
    ) -> None:
        self._model_tokens = model_tokens
        self._kv_tokens = kv_tokens
        self._vocab_size = vocab_size
        self._processors = tuple(processors)
        self._has_text = has_text

    @property
    def max_tokens(self) -> int:
        """The longest sequence, prompt and output, that is admitted."""
        return min(self._model_tokens, self._kv_tokens)

    def declared_tokens(self, request: Request) -> int:
        """Output tokens at most, as far as the request says and memory allows.

        Raises RequestRefused where the prompt, or prompt and output, can never fit, or a token id or a
        sampling parameter is not possible with this model or without its tokenizer.
        """
        prompt = len(request.prompt_token_ids)
        self._check_tokens(request)
        if request.sampling.stop and not self._has_text:
            raise RequestRefused(
                f"request {request.id!r}: stop={request.sampling.stop!r}: this engine has no tokenizer, "
                "so no text; stop_token_ids ends outputs by token"
            )
        for processor in self._processors:
            if processor.wants(request.sampling):
                try:
                    processor.check(request.sampling, self._vocab_size)
                except UserError as error:
                    raise RequestRefused(f"request {request.id!r}: {error}") from None
        wanted = request.forced_output_tokens or 0
        wanted = max(wanted, request.sampling.max_tokens or max(1, request.sampling.min_tokens))
        for limit, what in (
            (self._model_tokens, "the longest sequence that the model (or engine.max_model_tokens) allows"),
            (self._kv_tokens, "all of KV memory; engine.kv_bytes sets it"),
        ):
            if prompt + wanted > limit:
                raise RequestRefused(
                    f"request {request.id!r}: prompt of {prompt} and output of {wanted} tokens make "
                    f"{prompt + wanted}, more than {limit}: {what}"
                )
        return request.sampling.max_tokens or self.max_tokens - prompt

    def _check_tokens(self, request: Request) -> None:
        for token in (min(request.prompt_token_ids), max(request.prompt_token_ids)):
            if not 0 <= token < self._vocab_size:
                raise RequestRefused(
                    f"request {request.id!r}: prompt token id {token} is outside the vocabulary: "
                    f"0 to {self._vocab_size - 1}"
                )
