"""Top-n-sigma sampling (Tang et al., "Top-nσ: not all logits are you need", 2024): only tokens whose logit is
within n standard deviations of the largest can be drawn, whatever the temperature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.interfaces import Sampler, SamplingRows

if TYPE_CHECKING:
    import torch


@dataclass
class NewPluginConfig:
    """Options of `sampler=new_plugin`."""

    sigmas: float = 1.0
    """How many standard deviations below the largest logit a token may be."""

    def __post_init__(self) -> None:
        if not self.sigmas > 0:
            raise UserError(f"sampler.sigmas={self.sigmas}: must be more than 0")


class NewPlugin(Sampler):
    """Draws among the tokens near the largest logit. Of the request it heeds the temperature and the seed."""

    Config = NewPluginConfig

    def __init__(self, *, config: NewPluginConfig) -> None:
        self._sigmas = config.sigmas

    def sample(self, logits_RV: torch.Tensor, rows: SamplingRows) -> torch.Tensor:
        import torch

        from quire.rng import uniform

        tokens_R = logits_RV.argmax(dim=-1)
        for r, params in enumerate(rows.params):  # row by row: what is drawn depends on nothing else
            if params.temperature > 0:
                logits_V = logits_RV[r].double()
                spread = logits_V[logits_V.isfinite()].std(correction=0)
                logits_V[logits_V < logits_V.max() - self._sigmas * spread] = float("-inf")
                shares_V = torch.softmax(logits_V / params.temperature, dim=-1).cumsum(dim=-1)
                target = uniform(rows.seeds[r], rows.positions[r]) * shares_V[-1]
                tokens_R[r] = (shares_V <= target).sum()
        return tokens_R
