"""Plain torch, slow and obvious: what every other implementation is compared with.

Computes in float32, or in float64 when the inputs are float64. The contract is in `quire_kernels`.
"""

from quire_kernels.reference.activation import act_mul
from quire_kernels.reference.attention import paged_attention, plan_attention
from quire_kernels.reference.cache import kv_cache_shapes, quantise_tokens, store_kv
from quire_kernels.reference.fp8 import fp8_linear, grouped_fp8_linear, quantise_rows_fp8
from quire_kernels.reference.grouped import grouped_linear
from quire_kernels.reference.gumbel import gumbel_argmax
from quire_kernels.reference.merge import merge_states
from quire_kernels.reference.mla import latent_cache_shape, mla_decode, store_latents
from quire_kernels.reference.norm import rms_norm
from quire_kernels.reference.pairs import sort_pairs, sum_pairs
from quire_kernels.reference.quantised import groupwise_linear, int8_linear, quantise_rows
from quire_kernels.reference.quest import attend_pages, page_scores, store_bounds
from quire_kernels.reference.rotary import rotary
from quire_kernels.reference.rotate_store import rotate_store_kv
from quire_kernels.reference.sampling import filter_tokens, sample_tokens

__all__ = [
    "act_mul",
    "attend_pages",
    "filter_tokens",
    "fp8_linear",
    "grouped_fp8_linear",
    "grouped_linear",
    "groupwise_linear",
    "gumbel_argmax",
    "int8_linear",
    "kv_cache_shapes",
    "latent_cache_shape",
    "merge_states",
    "mla_decode",
    "page_scores",
    "paged_attention",
    "plan_attention",
    "quantise_rows",
    "quantise_rows_fp8",
    "quantise_tokens",
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
