"""C++ kernels for a CPU, float32 and bfloat16, compiled on first use.

The contract is in `quire_kernels`.
"""

from quire_kernels.cpu.attention import paged_attention, plan_attention
from quire_kernels.cpu.build import KernelBuildError, load_kernels
from quire_kernels.cpu.cache import kv_cache_shapes, store_kv
from quire_kernels.cpu.linear import PackedLinear, pack_linear
from quire_kernels.cpu.rowwise import act_mul, rms_norm, rotary

__all__ = [
    "KernelBuildError",
    "PackedLinear",
    "act_mul",
    "kv_cache_shapes",
    "load_kernels",
    "pack_linear",
    "paged_attention",
    "plan_attention",
    "rms_norm",
    "rotary",
    "store_kv",
]
