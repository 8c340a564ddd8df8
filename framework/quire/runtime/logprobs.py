"""Log probabilities of tokens under the model's own distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from quire.engine.plan import TokenLogprobs
from quire.runtime.readback import Readback


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RowLogprobs:
    """Of W rows that want them, by tensors on the host, which a Readback has to bring first.

    `best_WN` are the N largest log probabilities of each row, `ids_WN` whose they are. `top` says for each of
    all rows how many of them it wants, None for none at all.
    """

    tokens_W: torch.Tensor
    logprobs_W: torch.Tensor
    ranks_W: torch.Tensor
    ids_WN: torch.Tensor
    best_WN: torch.Tensor
    top: tuple[int | None, ...]

    def read(self) -> list[TokenLogprobs | None]:
        """For each of all rows; None for those that want none."""
        columns = (self.tokens_W, self.logprobs_W, self.ranks_W, self.ids_WN, self.best_WN)
        wanted = zip(*(column.tolist() for column in columns), strict=True)
        results: list[TokenLogprobs | None] = []
        for number in self.top:
            if number is None:
                results.append(None)
                continue
            token, logprob, rank, ids, best = next(wanted)
            most = tuple(zip(ids[:number], best[:number], strict=True))
            results.append(TokenLogprobs(token_id=token, logprob=logprob, rank=rank, top=most))
        return results


def row_logprobs(
    logits_RV: torch.Tensor, tokens_R: torch.Tensor, top: Sequence[int | None], readback: Readback
) -> RowLogprobs:
    """For each row the log probability and rank of its token, and of the `top` most probable; None for None.

    `logits_RV` are the model's, float32, before any processor. Tokens of equal probability share a rank.
    """
    wanted = [r for r, number in enumerate(top) if number is not None]
    rows_WV, tokens_W = logits_RV, tokens_R
    if len(wanted) < len(top):
        chosen_W = torch.tensor(wanted, dtype=torch.int64, device=logits_RV.device)
        rows_WV, tokens_W = logits_RV[chosen_W], tokens_R[chosen_W]
    chosen_W1 = rows_WV.gather(1, tokens_W[:, None])
    normalizer_W1 = rows_WV.logsumexp(dim=-1, keepdim=True)
    most = min(max((top[r] or 0 for r in wanted), default=0), logits_RV.shape[1])
    best_WN, ids_WN = rows_WV.topk(most, dim=-1)
    return RowLogprobs(
        tokens_W=readback.take(tokens_W),
        logprobs_W=readback.take((chosen_W1 - normalizer_W1)[:, 0]),
        ranks_W=readback.take((rows_WV > chosen_W1).sum(dim=-1).add_(1)),
        ids_WN=readback.take(ids_WN),
        best_WN=readback.take(best_WN - normalizer_W1),
        top=tuple(top),
    )
