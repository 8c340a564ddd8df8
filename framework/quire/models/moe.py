"""A feed-forward layer of experts, of which each token uses a few (Jiang et al., Mixtral, 2024), and maybe
some that all tokens use (Dai et al., DeepSeekMoE, 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.models.experts import Experts
from quire.models.mlp import Mlp
from quire.models.routing import Router

if TYPE_CHECKING:
    import torch

    from quire.interfaces.ops import Ops
    from quire.models.linears import Linears
    from quire.models.spec import DecoderSpec, MoeSpec
    from quire.models.weights import Weights


class Moe:
    """Routes tokens, has their experts compute them, and adds what all share."""

    def __init__(
        self,
        *,
        spec: DecoderSpec,
        moe: MoeSpec,
        prefix: str,
        weights: Weights,
        linears: Linears,
        ops: Ops,
    ) -> None:
        self._router = Router(moe=moe, prefix=prefix, weights=weights, ops=ops)
        self._experts = Experts(spec=spec, moe=moe, prefix=prefix, linears=linears, ops=ops)
        self.uncapturable = self._experts.uncapturable
        self._shared = None
        if moe.shared_size:
            self._shared = Mlp(spec=spec, prefix=f"{prefix}.shared", linears=linears, ops=ops)

    def __call__(self, x_TE: torch.Tensor) -> torch.Tensor:
        routed_TE = self._experts(x_TE, *self._router(x_TE))
        return routed_TE if self._shared is None else routed_TE + self._shared(x_TE)
