"""Log probabilities of tokens under the model's own distribution."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from quire.engine.plan import TokenLogprobs


def token_logprobs(
    logits_RV: torch.Tensor, token_ids: Sequence[int], top: Sequence[int | None]
) -> list[TokenLogprobs | None]:
    """For each row the log probability and rank of its token, and of the `top` most probable; None for None.

    `logits_RV` are the model's, float32, before any processor. Tokens of equal probability share a rank.
    """
    wanted = [r for r, number in enumerate(top) if number is not None]
    results: list[TokenLogprobs | None] = [None] * len(top)
    if not wanted:
        return results
    rows_RV = logits_RV if len(wanted) == len(top) else logits_RV[wanted]
    tokens_R1 = torch.tensor([token_ids[r] for r in wanted], device=logits_RV.device)[:, None]
    chosen_R1 = rows_RV.gather(1, tokens_R1)
    normalizer_R1 = rows_RV.logsumexp(dim=-1, keepdim=True)
    ranks = (rows_RV > chosen_R1).sum(dim=-1).add_(1).tolist()
    logprobs = (chosen_R1 - normalizer_R1)[:, 0].tolist()
    most = min(max(top[r] or 0 for r in wanted), logits_RV.shape[1])
    best_RN, ids_RN = rows_RV.topk(most, dim=-1)
    best, ids = (best_RN - normalizer_R1).tolist(), ids_RN.tolist()
    for i, r in enumerate(wanted):
        number = top[r]
        results[r] = TokenLogprobs(
            token_id=token_ids[r],
            logprob=logprobs[i],
            rank=ranks[i],
            top=tuple(zip(ids[i][:number], best[i][:number], strict=True)),
        )
    return results
