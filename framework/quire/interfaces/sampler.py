"""The sampler turns rows of logits into tokens; logits processors change the rows before that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

    from quire.engine.request import SamplingParams
    from quire.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SamplingRows:
    """State of the R rows that sample in this step. Read-only to samplers and processors.

    params        each row's parameters
    seeds         each row's seed, 64 bits; a draw is a function of (seed, position) and nothing else
    positions     each row's position: the number of tokens before the one to sample
    num_prompt    each row's prompt length
    history       each row's tokens so far, prompt and output, int32 of length positions[r]
    eos_token_ids the model's end of sequence tokens
    """

    params: tuple[SamplingParams, ...]
    seeds: tuple[int, ...]
    positions: tuple[int, ...]
    num_prompt: tuple[int, ...]
    history: tuple[np.ndarray, ...]
    eos_token_ids: tuple[int, ...]

    def select(self, chosen: Sequence[int]) -> SamplingRows:
        """The rows with those indices, in that order."""
        return SamplingRows(
            params=tuple(self.params[r] for r in chosen),
            seeds=tuple(self.seeds[r] for r in chosen),
            positions=tuple(self.positions[r] for r in chosen),
            num_prompt=tuple(self.num_prompt[r] for r in chosen),
            history=tuple(self.history[r] for r in chosen),
            eos_token_ids=self.eos_token_ids,
        )


class Sampler(ABC):
    """Chooses one token a row, by nothing but the row's logits, params, seed and position."""

    Config: type[Any]

    reads_history: bool = True
    """Whether it looks at `SamplingRows.history`. Without it, a GPU need not wait until the host knows the
    token before.
    """

    @abstractmethod
    def sample(self, logits_RV: torch.Tensor, rows: SamplingRows) -> torch.Tensor:
        """Token ids, int64 [R], on the device of `logits_RV` (float32, already processed; may be changed).

        Called by the runner once a step.
        """


class LogitsProcessor(ABC):
    """Changes logits before sampling: penalties, masks, biases, grammars.

    Its parameters are fields of SamplingParams, or `sampling.extra[name]` for processors that other
    distributions bring. Every registered processor is made at start and sees the rows that want it.
    """

    Config: type[Any]

    rank: int = 0
    """Order of application, the smaller first: penalties and biases 0, masks 100."""

    @abstractmethod
    def wants(self, params: SamplingParams) -> bool:
        """Whether a row with these parameters needs this processor. Pure: called when a request arrives, and
        when it begins to run.
        """

    @abstractmethod
    def apply(self, logits_RV: torch.Tensor, rows: SamplingRows) -> None:
        """Change `logits_RV` (float32) in place. `rows` are exactly those that want this processor."""

    def bind(  # noqa: B027 - optional hook
        self, *, tokenizer: Tokenizer | None, vocab_size: int, eos_token_ids: tuple[int, ...]
    ) -> None:
        """What to know of the model: its vocabulary, the width of logits. Called as an engine is made,
        before anything else; `tokenizer` is None for an engine without text.
        """

    def check(self, params: SamplingParams, vocab_size: int) -> None:  # noqa: B027 - optional hook
        """Raise UserError if the parameters cannot be served. Called when a request arrives."""
