"""Penalties on tokens that occurred before: repetition (Keskar et al., "CTRL", 2019, section 4.1) over prompt
and output, presence and frequency (as OpenAI's API defines them) over the output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.interfaces.sampler import LogitsProcessor, SamplingRows
from quire_plugins.logits_processors.indices import row_and_token

if TYPE_CHECKING:
    import numpy as np
    import torch

    from quire.engine.request import SamplingParams


@dataclass
class PenaltiesConfig:
    """It has no options."""


class Penalties(LogitsProcessor):
    """`repetition_penalty`, then `presence_penalty` and `frequency_penalty`."""

    Config = PenaltiesConfig

    def __init__(self, *, config: PenaltiesConfig) -> None:
        del config

    def wants(self, params: SamplingParams) -> bool:
        return params.repetition_penalty != 1 or params.presence_penalty != 0 or params.frequency_penalty != 0

    def apply(self, logits_RV: torch.Tensor, rows: SamplingRows) -> None:
        if any(params.repetition_penalty != 1 for params in rows.params):
            _repetition(logits_RV, rows)
        if any(params.presence_penalty != 0 or params.frequency_penalty != 0 for params in rows.params):
            _presence_and_frequency(logits_RV, rows)


def _repetition(logits_RV: torch.Tensor, rows: SamplingRows) -> None:
    """Positive logits of tokens that occurred are divided by the penalty, negative ones multiplied."""
    import torch

    seen: list[np.ndarray | tuple[int, ...]] = [
        history if params.repetition_penalty != 1 else ()
        for history, params in zip(rows.history, rows.params, strict=True)
    ]
    row, token = row_and_token(seen, logits_RV.device)
    penalties_R = torch.tensor([p.repetition_penalty for p in rows.params], device=logits_RV.device)
    penalties, logits = penalties_R[row], logits_RV[row, token]
    # A token that occurred twice is written twice, each time with the same value.
    logits_RV[row, token] = torch.where(logits < 0, logits * penalties, logits / penalties)


def _presence_and_frequency(logits_RV: torch.Tensor, rows: SamplingRows) -> None:
    """Logits fall by the presence penalty, and by the frequency penalty for each occurrence."""
    import numpy as np
    import torch

    device, vocab_size = logits_RV.device, logits_RV.shape[1]
    cells = [
        history[num_prompt:].astype(np.int64) + r * vocab_size
        for r, (history, num_prompt) in enumerate(zip(rows.history, rows.num_prompt, strict=True))
    ]
    cell, count = np.unique(np.concatenate(cells), return_counts=True)
    row, token = np.divmod(cell, vocab_size)
    presence_R = np.array([p.presence_penalty for p in rows.params])
    frequency_R = np.array([p.frequency_penalty for p in rows.params])
    penalty = (presence_R[row] + frequency_R[row] * count).astype(np.float32)
    row, token = torch.from_numpy(row).to(device), torch.from_numpy(token).to(device)
    logits_RV[row, token] -= torch.from_numpy(penalty).to(device)
