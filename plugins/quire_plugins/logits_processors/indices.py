"""Token ids of several rows, checked against the vocabulary and as indices into [R, V] logits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from quire.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import torch


def check_token_ids(field: str, token_ids: Iterable[int], vocab_size: int) -> None:
    """Raise UserError, naming `field`, at the first id that is not in the vocabulary."""
    for token_id in token_ids:
        if not 0 <= token_id < vocab_size:
            raise UserError(
                f"{field}: token id {token_id} is outside the vocabulary, must be in 0..{vocab_size - 1}"
            )


def row_and_token(
    token_ids: Sequence[Sequence[int] | np.ndarray], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Row index and token id of each id, row by row: two int64 tensors for `logits_RV[row, token]`."""
    import numpy as np
    import torch

    row = np.repeat(np.arange(len(token_ids)), [len(ids) for ids in token_ids])
    token = np.concatenate([np.asarray(ids, dtype=np.int64) for ids in token_ids])
    return torch.from_numpy(row).to(device), torch.from_numpy(token).to(device)
