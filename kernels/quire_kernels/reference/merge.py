"""The merge of attention states, as one softmax over the log-sum-exps of the parts."""

import torch
from torch import Tensor

from quire_kernels.reference.precision import accumulate_dtype


def merge_states(
    parts_CTHD: Tensor,
    lses_CTH: Tensor,
    out_THD: Tensor,
    *,
    sinks_H: Tensor | None = None,
    lse_TH: Tensor | None = None,
) -> None:
    """The output and log-sum-exp over the keys of all parts; of no keys it is 0 and -inf."""
    wide = accumulate_dtype(parts_CTHD)
    lses_CTH = lses_CTH.to(wide)
    parts_CTHD = parts_CTHD.to(wide).masked_fill(lses_CTH.isneginf()[..., None], 0.0)
    merged_TH = torch.logsumexp(lses_CTH, dim=0)
    if sinks_H is not None:
        merged_TH = torch.logaddexp(merged_TH, sinks_H.to(wide))
    weights_CTH = torch.exp(lses_CTH - merged_TH.masked_fill(merged_TH.isneginf(), 0.0))
    out_THD.copy_(torch.einsum("cth,cthd->thd", weights_CTH, parts_CTHD))
    if lse_TH is not None:
        lse_TH.copy_(merged_TH)
