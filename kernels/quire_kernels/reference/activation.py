"""Gated activations (Shazeer, "GLU Variants Improve Transformer", 2020)."""

from torch import Tensor
from torch.nn import functional

from quire_kernels.reference.precision import accumulate_dtype


def act_mul(gate_up_T2I: Tensor, out_TI: Tensor, *, activation: str) -> None:
    """out = activation(gate) * up; `activation` is "silu" or "gelu_tanh"."""
    gate, up = gate_up_T2I.to(accumulate_dtype(gate_up_T2I)).chunk(2, dim=-1)
    if activation == "silu":
        gate = functional.silu(gate)
    elif activation == "gelu_tanh":
        gate = functional.gelu(gate, approximate="tanh")
    else:
        raise ValueError(f"activation {activation!r} is unknown; allowed: 'silu', 'gelu_tanh'")
    out_TI.copy_(gate * up)
