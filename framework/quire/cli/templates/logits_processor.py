"""No n-gram twice: a token that would repeat one is never sampled (Paulus et al., 2018, section 2.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.interfaces import LogitsProcessor, SamplingRows

if TYPE_CHECKING:
    import torch

    from quire.engine.request import SamplingParams


@dataclass
class NewPluginConfig:
    """It has no options: a request asks for it with `extra={"new_plugin": n}`."""


class NewPlugin(LogitsProcessor):
    """`extra["new_plugin"] = n`: no n tokens in a row occur twice, in prompt and output together."""

    Config = NewPluginConfig
    rank = 100

    def __init__(self, *, config: NewPluginConfig) -> None:
        del config

    def wants(self, params: SamplingParams) -> bool:
        return "new_plugin" in params.extra

    def check(self, params: SamplingParams, vocab_size: int) -> None:
        size = params.extra["new_plugin"]
        if not isinstance(size, int) or size < 2:
            raise UserError(f"new_plugin={size!r}: must be an integer of at least 2")

    def apply(self, logits_RV: torch.Tensor, rows: SamplingRows) -> None:
        for r, (params, history) in enumerate(zip(rows.params, rows.history, strict=True)):
            tokens, size = history.tolist(), params.extra["new_plugin"]
            tail = tokens[len(tokens) - size + 1 :]
            starts = range(len(tokens) - size + 1)
            banned = [tokens[i + size - 1] for i in starts if tokens[i : i + size - 1] == tail]
            logits_RV[r, banned] = float("-inf")
