"""The tokens that may come next, for the rows of a step, as bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.errors import UserError
from quire_plugins.logits_processors.matchers import CompiledGrammars, Matchers
from quire_plugins.logits_processors.vocabulary import llguidance_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from llguidance import LLMatcher

    from quire.engine.request import SamplingParams
    from quire.interfaces.sampler import SamplingRows
    from quire.text.tokenizer import Tokenizer

_PARALLEL_ROWS = 8
"""Handing rows to llguidance's threads costs what some of them take."""


class GrammarMasks:
    """Grammars and matchers for one vocabulary. One thread may `compile` while another asks for masks."""

    def __init__(self, *, tokenizer: Tokenizer, vocab_size: int, eos_token_ids: tuple[int, ...]) -> None:
        import numpy as np
        from llguidance import LLExecutor

        try:
            vocabulary = llguidance_tokenizer(tokenizer, vocab_size=vocab_size, eos_token_ids=eos_token_ids)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"grammar: llguidance cannot read this model's tokenizer: {reason}") from None
        self._executor = LLExecutor()
        self._grammars = CompiledGrammars(tokenizer=vocabulary)
        self._matchers = Matchers()
        self._eos_token_ids = frozenset(eos_token_ids)
        self._words = -(-vocab_size // 32)
        bits = np.zeros(self._words * 32, dtype=np.uint8)
        bits[list(eos_token_ids)] = 1
        self._ends_B = np.packbits(bits, bitorder="little")

    def compile(self, params: SamplingParams) -> None:
        """Raises UserError if the grammar cannot be kept to."""
        self._grammars.of(params)

    def of(self, rows: SamplingRows) -> tuple[np.ndarray, np.ndarray]:
        """Allowed tokens, uint8 [R, B], eight to a byte from the lowest bit; and which rows' texts can only
        be complete, bool [R]. A row in which nothing is allowed has tokens that its grammar does not.
        """
        import numpy as np

        allowed_RW = np.zeros((len(rows.params), self._words), dtype=np.int32)
        allowed_RB = allowed_RW.view(np.uint8)
        going: list[tuple[LLMatcher, np.ndarray]] = []
        places: list[int] = []
        for r, (params, history, prompt) in enumerate(
            zip(rows.params, rows.history, rows.num_prompt, strict=True)
        ):
            output = history[prompt:]
            if len(output) and int(output[-1]) in self._eos_token_ids:
                allowed_RB[r] = self._ends_B
            else:
                going.append((self._grammars.of(params), output))
                places.append(r)
        matchers = list(zip(self._matchers.of_step(going), places, strict=True))
        self._fill(matchers, allowed_RW)
        for matcher, r in matchers:
            if matcher.is_error():  # what llguidance then allows is the end
                allowed_RW[r] = 0
        complete_R = ~(allowed_RB & ~self._ends_B).any(axis=1) & allowed_RB.any(axis=1)
        return allowed_RB, complete_R

    def _fill(self, matchers: list[tuple[LLMatcher, int]], allowed_RW: np.ndarray) -> None:
        """Write the mask of each matcher into its row."""
        if len(matchers) >= _PARALLEL_ROWS:
            self._executor.unsafe_compute_mask_ptr(
                matchers, allowed_RW.ctypes.data, allowed_RW.strides[0], allowed_RW.shape[0]
            )
            return
        for matcher, r in matchers:
            matcher.unsafe_compute_mask_ptr(allowed_RW[r].ctypes.data, allowed_RW.strides[0])
