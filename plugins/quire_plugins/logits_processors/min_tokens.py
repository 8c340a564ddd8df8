"""No end before a minimum of output tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.interfaces.sampler import LogitsProcessor, SamplingRows
from quire_plugins.logits_processors.indices import check_token_ids, row_and_token

if TYPE_CHECKING:
    import torch

    from quire.engine.request import SamplingParams


@dataclass
class MinTokensConfig:
    """It has no options."""


class MinTokens(LogitsProcessor):
    """`min_tokens`: the model's end of sequence and `stop_token_ids` cannot be among the first so many."""

    Config = MinTokensConfig
    rank = 100

    def __init__(self, *, config: MinTokensConfig) -> None:
        del config

    def wants(self, params: SamplingParams) -> bool:
        return params.min_tokens > 0

    def apply(self, logits_RV: torch.Tensor, rows: SamplingRows) -> None:
        ends = [
            rows.eos_token_ids + params.stop_token_ids if position - num_prompt < params.min_tokens else ()
            for params, position, num_prompt in zip(rows.params, rows.positions, rows.num_prompt, strict=True)
        ]
        logits_RV[row_and_token(ends, logits_RV.device)] = float("-inf")

    def check(self, params: SamplingParams, vocab_size: int) -> None:
        if params.min_tokens > 0:
            check_token_ids("stop_token_ids", params.stop_token_ids, vocab_size)
