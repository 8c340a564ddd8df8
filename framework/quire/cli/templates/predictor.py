"""Outputs are as long as prompts, times a constant."""

from __future__ import annotations

from dataclasses import dataclass

from quire.engine.sequence import SequenceView
from quire.errors import UserError
from quire.interfaces import LengthPredictor


@dataclass
class NewPluginConfig:
    """Options of `predictor=new_plugin`."""

    ratio: float = 1.5
    """Tokens of output for each token of the prompt, on average."""

    def __post_init__(self) -> None:
        if not self.ratio > 0:
            raise UserError(f"predictor.ratio={self.ratio}: must be more than 0")


class NewPlugin(LengthPredictor):
    """Every length up to twice the average is as likely as any other."""

    Config = NewPluginConfig

    def __init__(self, *, config: NewPluginConfig, seed: int) -> None:
        del seed  # from which everything random would derive
        self._ratio = config.ratio

    def total(self, seq: SequenceView) -> float:
        return max(self._ratio * seq.num_prompt_tokens, seq.num_output_tokens + 1)

    def quantile(self, seq: SequenceView, q: float) -> float:
        return max(2 * q * self._ratio * seq.num_prompt_tokens, seq.num_output_tokens + 1)
