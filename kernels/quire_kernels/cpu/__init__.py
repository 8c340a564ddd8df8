"""C++ kernels for a CPU, float32 and bfloat16, compiled on first use.

The contract is in `quire_kernels`.
"""

from quire_kernels.cpu.attention import paged_attention, plan_attention
from quire_kernels.cpu.build import KernelBuildError, load_kernels
from quire_kernels.cpu.cache import kv_cache_shapes, store_kv
from quire_kernels.cpu.groupwise import GroupwiseLinear
from quire_kernels.cpu.int8 import Int8Linear
from quire_kernels.cpu.linear import PackedLinear, PackedTable, pack_linear
from quire_kernels.cpu.rowwise import act_mul, rms_norm, rotary

__all__ = [
    "GroupwiseLinear",
    "Int8Linear",
    "KernelBuildError",
    "PackedLinear",
    "PackedTable",
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
