"""Tokens that are never sampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.interfaces.sampler import LogitsProcessor, SamplingRows
from quire_plugins.logits_processors.indices import check_token_ids, row_and_token

if TYPE_CHECKING:
    import torch

    from quire.engine.request import SamplingParams


@dataclass
class BadTokensConfig:
    """It has no options."""


class BadTokens(LogitsProcessor):
    """`bad_token_ids`: their logits become minus infinity."""

    Config = BadTokensConfig
    rank = 100

    def __init__(self, *, config: BadTokensConfig) -> None:
        del config

    def wants(self, params: SamplingParams) -> bool:
        return bool(params.bad_token_ids)

    def apply(self, logits_RV: torch.Tensor, rows: SamplingRows) -> None:
        logits_RV[row_and_token([p.bad_token_ids for p in rows.params], logits_RV.device)] = float("-inf")

    def check(self, params: SamplingParams, vocab_size: int) -> None:
        check_token_ids("bad_token_ids", params.bad_token_ids, vocab_size)
        if len(set(params.bad_token_ids)) == vocab_size:
            raise UserError("bad_token_ids: names all tokens of the vocabulary, must leave at least one")
