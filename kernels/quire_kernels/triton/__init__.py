"""The GPU implementation, in Triton. The contract is in `quire_kernels`.

Runs on NVIDIA GPUs from compute capability 8.0 and on AMD's gfx942 and gfx950; with TRITON_INTERPRET=1, set
before triton is imported, on a CPU, slowly. Importing this package imports triton and no torch.
"""

from quire_kernels.triton.activation import act_mul
from quire_kernels.triton.attention import AttentionPlan, paged_attention, plan_attention
from quire_kernels.triton.cache import kv_cache_shapes, store_kv
from quire_kernels.triton.fp8 import Fp8Linear, GroupedFp8Linear, fp8_linear, grouped_fp8_linear
from quire_kernels.triton.fp8_rows import quantise_rows_fp8
from quire_kernels.triton.grouped import grouped_linear
from quire_kernels.triton.groupwise import (
    GroupedGroupwiseLinear,
    GroupwiseLinear,
    PackedGroups,
    pack_groups,
)
from quire_kernels.triton.gumbel import gumbel_argmax
from quire_kernels.triton.latents import latent_cache_shape, store_latents
from quire_kernels.triton.merge import merge_states
from quire_kernels.triton.mla import mla_decode
from quire_kernels.triton.norm import rms_norm
from quire_kernels.triton.pairs import sort_pairs, sum_pairs
from quire_kernels.triton.quest import attend_pages, page_scores, store_bounds
from quire_kernels.triton.rotary import rotary
from quire_kernels.triton.rotate_store import rotate_store_kv
from quire_kernels.triton.sampling import sample_tokens
from quire_kernels.triton.sampling_filter import filter_tokens

__all__ = [
    "AttentionPlan",
    "Fp8Linear",
    "GroupedFp8Linear",
    "GroupedGroupwiseLinear",
    "GroupwiseLinear",
    "PackedGroups",
    "act_mul",
    "attend_pages",
    "filter_tokens",
    "fp8_linear",
    "grouped_fp8_linear",
    "grouped_linear",
    "gumbel_argmax",
    "kv_cache_shapes",
    "latent_cache_shape",
    "merge_states",
    "mla_decode",
    "pack_groups",
    "page_scores",
    "paged_attention",
    "plan_attention",
    "quantise_rows_fp8",
    "rms_norm",
    "rotary",
    "rotate_store_kv",
    "sample_tokens",
    "sort_pairs",
    "store_bounds",
    "store_kv",
    "store_latents",
    "sum_pairs",
]
