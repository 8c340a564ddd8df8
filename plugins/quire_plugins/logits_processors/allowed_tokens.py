"""Nothing but chosen tokens."""

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
class AllowedTokensConfig:
    """It has no options."""


class AllowedTokens(LogitsProcessor):
    """`allowed_token_ids`: all other logits become minus infinity."""

    Config = AllowedTokensConfig
    rank = 100

    def __init__(self, *, config: AllowedTokensConfig) -> None:
        del config

    def wants(self, params: SamplingParams) -> bool:
        return params.allowed_token_ids is not None

    def apply(self, logits_RV: torch.Tensor, rows: SamplingRows) -> None:
        row, token = row_and_token([p.allowed_token_ids or () for p in rows.params], logits_RV.device)
        logits = logits_RV[row, token]
        logits_RV.fill_(float("-inf"))
        logits_RV[row, token] = logits

    def check(self, params: SamplingParams, vocab_size: int) -> None:
        if params.allowed_token_ids is None:
            return
        check_token_ids("allowed_token_ids", params.allowed_token_ids, vocab_size)
        if set(params.allowed_token_ids) <= set(params.bad_token_ids):
            raise UserError("allowed_token_ids: at least one must not be among bad_token_ids")
