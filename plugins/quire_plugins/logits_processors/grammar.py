"""Outputs that keep to a grammar: at each token nothing can be sampled after which no valid text follows.

The masks are llguidance's (Moskal et al., Microsoft, 2024), an Earley parser over derivatives of regular
expressions that walks the tokenizer's trie; the way there, masks by the vocabulary, is that of Willard and
Louf, "Efficient guided generation for large language models", 2023, section 3.

Where a row stands in its grammar follows from its output tokens alone, so preemption, recomputing, forks and
overlap change nothing. The model's end of sequence can be sampled exactly where the text is complete, and
nothing else where it can only be complete. What else may end an output still does: max_tokens, stop strings
and stop_token_ids cut it where they say.

`min_tokens` bars the end while the grammar has more to say; a text that can only be complete gets end of
sequence tokens up to that number, and so it does up to max_tokens with `ignore_eos`.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.interfaces.sampler import LogitsProcessor, SamplingRows

if TYPE_CHECKING:
    import torch

    from quire.engine.request import SamplingParams
    from quire.text.tokenizer import Tokenizer
    from quire_plugins.logits_processors.masks import GrammarMasks

_SLAB = {"cpu": 2**17, "cuda": 2**24}
"""Logits worked on at once: on a CPU what stays in its caches."""


@dataclass
class GrammarConfig:
    """It has no options."""


class Grammar(LogitsProcessor):
    """`extra["grammar"]`: an object with one of json_object, json_schema, regex, choice, lark, ebnf and
    structural_tag, and its value.
    """

    Config = GrammarConfig
    rank = 200  # after the masks: a text that is complete ends whatever they bar

    def __init__(self, *, config: GrammarConfig) -> None:
        del config
        self._tokenizer: Tokenizer | None = None
        self._vocab_size = 0
        self._eos_token_ids: tuple[int, ...] = ()
        self._masks: GrammarMasks | None = None
        self._lock = threading.Lock()

    def bind(self, *, tokenizer: Tokenizer | None, vocab_size: int, eos_token_ids: tuple[int, ...]) -> None:
        self._tokenizer, self._vocab_size, self._eos_token_ids = tokenizer, vocab_size, eos_token_ids
        self._masks = None

    def wants(self, params: SamplingParams) -> bool:
        return params.extra.get("grammar") is not None

    def check(self, params: SamplingParams, vocab_size: int) -> None:
        if params.allowed_token_ids is not None or params.bad_token_ids:
            raise UserError(
                "grammar: cannot be kept to with allowed_token_ids or bad_token_ids, which may leave no token"
            )
        if params.min_tokens > 0 and params.stop_token_ids:
            raise UserError(
                f"grammar: cannot be kept to with min_tokens={params.min_tokens} and stop_token_ids, which "
                "the grammar may need before that"
            )
        self._ready_masks().compile(params)

    def apply(self, logits_RV: torch.Tensor, rows: SamplingRows) -> None:
        import torch

        allowed_RB, complete_R = self._ready_masks().of(rows)
        _bar(logits_RV, torch.from_numpy(allowed_RB).to(logits_RV.device))
        for row in complete_R.nonzero()[0].tolist():
            logits_RV[row, self._eos_token_ids[0]] = 0.0  # min_tokens may have barred it

    def _ready_masks(self) -> GrammarMasks:
        """Made at the first grammar: reading a vocabulary of 150,000 tokens takes about a second."""
        from quire_plugins.logits_processors.masks import GrammarMasks

        with self._lock:
            if self._masks is None:
                if self._tokenizer is None:
                    raise UserError("grammar: this engine has no tokenizer, and a grammar is about text")
                if not self._eos_token_ids:
                    raise UserError(
                        "grammar: the model has no end of sequence token, which a text must end by"
                    )
                self._masks = GrammarMasks(
                    tokenizer=self._tokenizer,
                    vocab_size=self._vocab_size,
                    eos_token_ids=self._eos_token_ids,
                )
            return self._masks


def _bar(logits_RV: torch.Tensor, allowed_RB: torch.Tensor) -> None:
    """Minus infinity for tokens whose bit, eight to a byte from the lowest, is not set.

    A table has what a byte adds to its eight logits: on a CPU several times as fast as a mask of booleans,
    and as fast for any number of tokens allowed.
    """
    import torch

    bits_X8 = torch.arange(256)[:, None] >> torch.arange(8) & 1
    added_X8 = torch.where(bits_X8.bool(), 0.0, float("-inf")).to(logits_RV.device)
    vocab_size = logits_RV.shape[1]
    slab = max(1, _SLAB[logits_RV.device.type] // vocab_size)
    for first in range(0, len(logits_RV), slab):
        bytes_S = allowed_RB[first : first + slab].flatten().to(torch.int32)
        added_RV = added_X8.index_select(0, bytes_S).view(-1, allowed_RB.shape[1] * 8)
        logits_RV[first : first + slab].add_(added_RV[:, :vocab_size])
