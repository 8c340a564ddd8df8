"""Plain torch, slow and obvious: what every other implementation is compared with.

Computes in float32, or in float64 when the inputs are float64. The contract is in `quire_kernels`.
"""

from quire_kernels.reference.activation import act_mul
from quire_kernels.reference.attention import paged_attention, plan_attention
from quire_kernels.reference.cache import kv_cache_shapes, store_kv
from quire_kernels.reference.norm import rms_norm
from quire_kernels.reference.quantised import groupwise_linear, int8_linear, quantise_rows
from quire_kernels.reference.rotary import rotary

__all__ = [
    "act_mul",
    "groupwise_linear",
    "int8_linear",
    "kv_cache_shapes",
    "paged_attention",
    "plan_attention",
    "quantise_rows",
    "rms_norm",
    "rotary",
    "store_kv",
]
