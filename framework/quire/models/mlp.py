"""Feed-forward layers, with a gate (Shazeer, "GLU variants improve transformer", 2020) or without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.models.layout import gate_up_parts
from quire.models.unary import function_of

if TYPE_CHECKING:
    import torch

    from quire.interfaces.ops import Ops
    from quire.models.linears import Linears
    from quire.models.spec import DecoderSpec
    from quire.models.unary import Unary


class Mlp:
    """down(activation(gate(x)) * up(x)), gate and up as one product."""

    uncapturable: str | None = None

    def __init__(self, *, spec: DecoderSpec, prefix: str, linears: Linears, ops: Ops) -> None:
        parts = [f"{prefix}.{part}" for part in gate_up_parts(spec)]
        self._act_mul = ops.act_mul
        self._activation = spec.activation
        self._gate_up = linears.linear(f"{prefix}.gate_up", parts, bias=spec.mlp_bias)
        self._down = linears.linear(f"{prefix}.down", [f"{prefix}.down"], bias=spec.mlp_bias)

    def __call__(self, x_TE: torch.Tensor) -> torch.Tensor:
        return self._down(self._act_mul(self._gate_up(x_TE), self._activation))


class UngatedMlp:
    """down(f(up(x))) (Vaswani et al., "Attention is all you need", 2017)."""

    uncapturable: str | None = None

    def __init__(self, *, spec: DecoderSpec, function: Unary, prefix: str, linears: Linears) -> None:
        self._function = function_of(function)
        self._up = linears.linear(f"{prefix}.up", [f"{prefix}.up"], bias=spec.mlp_bias)
        self._down = linears.linear(f"{prefix}.down", [f"{prefix}.down"], bias=spec.mlp_bias)

    def __call__(self, x_TE: torch.Tensor) -> torch.Tensor:
        return self._down(self._function(self._up(x_TE)))
