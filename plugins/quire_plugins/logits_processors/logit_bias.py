"""A number added to the logits of chosen tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.interfaces.sampler import LogitsProcessor, SamplingRows
from quire_plugins.logits_processors.indices import check_token_ids, row_and_token

if TYPE_CHECKING:
    import torch

    from quire.engine.request import SamplingParams


@dataclass
class LogitBiasConfig:
    """It has no options."""


class LogitBias(LogitsProcessor):
    """`logit_bias`: token id -> number added to its logit."""

    Config = LogitBiasConfig

    def __init__(self, *, config: LogitBiasConfig) -> None:
        del config

    def wants(self, params: SamplingParams) -> bool:
        return bool(params.logit_bias)

    def apply(self, logits_RV: torch.Tensor, rows: SamplingRows) -> None:
        import torch

        row, token = row_and_token([tuple(p.logit_bias) for p in rows.params], logits_RV.device)
        bias = [value for params in rows.params for value in params.logit_bias.values()]
        logits_RV[row, token] += torch.tensor(bias, dtype=logits_RV.dtype, device=logits_RV.device)

    def check(self, params: SamplingParams, vocab_size: int) -> None:
        check_token_ids("logit_bias", params.logit_bias, vocab_size)
        for token_id, value in params.logit_bias.items():
            if not math.isfinite(value):
                raise UserError(f"logit_bias[{token_id}]={value}: must be a finite number")
