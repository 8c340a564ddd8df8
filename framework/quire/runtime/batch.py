"""The tensors of one step, on the device, made once and read by every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """T tokens of S sequences, packed; R rows of hidden states go on to the logits.

    token_ids_T, positions_T   int64
    query_starts_S1            int32; sequence s owns tokens query_starts[s]:query_starts[s + 1]
    seq_lens_S                 int32; tokens in KV memory once this step is stored
    tables_GSM                 per KV group, int32 [S, M_g]: blocks by position
    slots_GT                   per KV group, int64 [T]: where each token's K and V are stored
    logit_rows_R               int64: tokens whose logits are needed

    The host copies spare the device a question: `host_query_starts` and `host_seq_lens` are CPU tensors.
    """

    token_ids_T: torch.Tensor
    positions_T: torch.Tensor
    query_starts_S1: torch.Tensor
    seq_lens_S: torch.Tensor
    tables_GSM: tuple[torch.Tensor, ...]
    slots_GT: tuple[torch.Tensor, ...]
    logit_rows_R: torch.Tensor
    host_query_starts_S1: torch.Tensor
    host_seq_lens_S: torch.Tensor
    block_size: int

    @property
    def num_tokens(self) -> int:
        return self.token_ids_T.shape[0]

    @property
    def num_sequences(self) -> int:
        return self.seq_lens_S.shape[0]
