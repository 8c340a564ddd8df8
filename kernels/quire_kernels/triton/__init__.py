"""The GPU implementation, in Triton. The contract is in `quire_kernels`.

Runs on NVIDIA GPUs from compute capability 8.0 and on AMD's gfx942 and gfx950; with TRITON_INTERPRET=1, set
before triton is imported, on a CPU, slowly. Importing this package imports triton and no torch.
"""

from quire_kernels.triton.activation import act_mul
from quire_kernels.triton.attention import AttentionPlan, paged_attention, plan_attention
from quire_kernels.triton.cache import kv_cache_shapes, store_kv
from quire_kernels.triton.norm import rms_norm
from quire_kernels.triton.rotary import rotary

__all__ = [
    "AttentionPlan",
    "act_mul",
    "kv_cache_shapes",
    "paged_attention",
    "plan_attention",
    "rms_norm",
    "rotary",
    "store_kv",
]
