"""Kernels: functions, tensors in and tensors out.

Three packages implement the same operations with the same signatures: `reference` (plain torch, the
oracle), `cpu` (C++) and `triton` (GPU). They know nothing of engines, sequences or policies.

Legend of shape suffixes:
    T  tokens of this step, all sequences packed one after another
    S  sequences of this step          H  query heads        K  key-value heads
    D  head dimension                  E  model (hidden) dim I  intermediate dimension
    N  blocks in the cache             B  tokens per block   M  columns of a block table

Every implementation exports

    kv_cache_shapes(num_blocks, kv_heads, block_size, head_dim, dtype) -> (shape of K, shape of V)
    store_kv(k_TKD, v_TKD, k_cache, v_cache, slots_T, *, k_scales_NKB=None, v_scales_NKB=None)
    paged_attention(q_THD, k_cache, v_cache, tables_SM, query_starts_S1, seq_lens_S, out_THD, *,
                    scale, window=None, softcap=None, alibi_slopes_H=None, sinks_H=None, lse_TH=None,
                    k_scales_NKB=None, v_scales_NKB=None, plan=None)
    plan_attention(query_starts_S1, seq_lens_S, *, heads, kv_heads, block_size, window=None) -> plan
    rms_norm(x_TE, weight_E, out_TE, *, eps, residual_TE=None, unit_offset=False)
    rotary(q_THD, k_TKD, positions_T, cos_sin_PR, *, interleaved=False)
    act_mul(gate_up_T2I, out_TI, *, activation)

of which `triton` and `reference` also export the middle of a layer as one, and the choice of tokens:

    rotate_store_kv(q_THD, k_TKD, v_TKD, k_cache, v_cache, slots_T, positions_T, cos_sin_PR, *,
                    q_norm_D=None, k_norm_D=None, eps=1e-6, unit_offset=False, interleaved=False,
                    k_scales_NKB=None, v_scales_NKB=None)
    sample_tokens(logits_RV, tokens_R, *, temperatures_R, top_ks_R, top_ps_R, min_ps_R, seeds_R, positions_R)
    gumbel_argmax(logits_RV, tokens_R, *, temperatures_R, seeds_R, positions_R)
    filter_tokens(logits_RV, *, temperatures_R, top_ks_R, top_ps_R, min_ps_R)

as well as what attends in parts, and to latents (C parts of a context, W columns of a latent cache, the first
V of them its values):

    merge_states(parts_CTHD, lses_CTH, out_THD, *, sinks_H=None, lse_TH=None)
    latent_cache_shape(num_blocks, block_size, latent_dim, rotary_dim, dtype) -> shape of the cache
    store_latents(rows_TW, cache_NBW, slots_T)
    mla_decode(q_THW, cache_NBW, tables_SM, query_starts_S1, seq_lens_S, out_THV, *,
               scale, lse_TH=None, plan=None)

and what attends to chosen pages (P pages of a sequence, as its table has them; J of them chosen):

    store_bounds(k_TKD, least_NKD, largest_NKD, slots_T, *, block_size)
    page_scores(q_SHD, least_NKD, largest_NKD, tables_SM, seq_lens_S, scores_SKP, *,
                block_size, scale, softcap=None, alibi_slopes_H=None)
    attend_pages(q_SHD, k_cache, v_cache, tables_SM, seq_lens_S, pages_SKJ, out_SHD, *,
                 scale, softcap=None, alibi_slopes_H=None, sinks_H=None)

and `cpu`, with functions in `reference` for an oracle, products whose weights are held once, packed:

    PackedLinear(weight_OI, bias_O)                                         as floats
    Int8Linear(values_OI, scales_O, bias_O)                                 int8_linear
    GroupwiseLinear(values_OI, scales_OG, zeros_OG, bias_O, *, bits, group_size)   groupwise_linear

and `triton`, again with functions in `reference`, products with integers, in fp8 and of experts:

    GroupwiseLinear(values_OI, scales_OG, zeros_OG, bias_O, *, bits, group_size)   groupwise_linear
    Fp8Linear(weight_OI, bias_O)               quantise_rows_fp8(x_TI) -> (values_TI, scales_T)
                                               fp8_linear(values_TI, scales_T, weight_OI, weight_scales_O,
                                                          bias_O, out_TO)
    sort_pairs(chosen_Tk, tokens_P, places_Tk, ends_X)
    sum_pairs(y_PE, places_Tk, shares_Tk, out_TE)
    grouped_linear(x_TI, weight_XOI, ends_X, out_TO)
    GroupedGroupwiseLinear(list of pack_groups(values_OI, scales_OG, zeros_OG, *, bits, group_size))
    GroupedFp8Linear(iterable of weight_OI)    grouped_fp8_linear(values_TI, scales_T, weight_XOI,
                                                                  weight_scales_XO, ends_X, out_TO)

with these meanings:

`slots_T` (int64) addresses the cache by token: slot = block * B + offset in the block. A negative slot is
skipped. The layout inside a block belongs to the implementation; the block is always dimension 0.

A cache of 8 bits has the shapes that `kv_cache_shapes` gives for k's own type, and elements of type int8 or
float8_e4m3fn; the two float32 tensors of scales say what the values of each token and head are to be
multiplied by. `store_kv` chooses the scale: the largest value becomes 127 or 448, and one that is not finite
makes the scale NaN (`reference.quantise_tokens`).

`paged_attention` is causal and unified: sequence s owns the query rows query_starts[s]:query_starts[s+1]
(int32); they are the last tokens of its seq_lens[s] (int32) cached tokens, so the row i of n sits at
position seq_lens[s] - n + i. Prefill, chunk, decode and draft rows are one case. K and V of this step are in
the cache before the call. tables_SM (int32) maps a sequence's block index to a block of the cache; entries
that no visible token needs may hold anything. With a `window`, a query at position p sees keys at
p - window < j <= p. `softcap` c maps scores to c * tanh(score / c), after `scale`. `alibi_slopes_H` (float32)
then adds slope * (j - p), nothing for the query's own key (Press, Smith and Lewis, "Train Short, Test Long",
ICLR 2022). `sinks_H` (float32) adds one logit a head, as it is, to the softmax's denominator and nothing to
its numerator. `lse_TH` (float32), where given, receives the natural-log sum of exponents (sinks included).
`plan` is what `plan_attention` returned for the same step: made once a step, shared by all layers of the same
geometry.

`merge_states` makes of C outputs over disjoint sets of keys and their log-sum-exps (float32), as
`paged_attention` gives them, those over all keys. A part that has no keys for a row has a log-sum-exp of -inf
there, and its output may be anything; a row without any keys becomes 0 and -inf. `sinks_H` counts here once,
and not in the parts. `out_THD` and `lse_TH` may be one of the parts.

`mla_decode` is `paged_attention` of all heads over one key a token, the row of W elements in the cache, whose
first V elements are the value. q is what comes of absorbing the projection of keys; that of values is applied
to out. `plan` is `plan_attention`'s for one key-value head. `store_latents` writes such rows.

`store_bounds` keeps, of every block, the least and the largest number of its keys in each dimension. A
block's first slot begins its bounds anew, every other widens them. In a step the tokens of a block follow one
another, in the order of their slots. `page_scores` takes one row a sequence, its last token's: a page's score
(float32) is the most that any query head of a group can come to with any key within the bounds, as a product
or, with slopes, as `paged_attention` has it, `scale`, `softcap` and bias included. The page of the last token
gets +inf, a page that the sequence lacks -inf. `attend_pages` is `paged_attention` of these rows to the
tokens of the pages in pages_SKJ (int64, each at most once) alone, in any order; those that the sequence lacks
count for nothing. A sequence of no tokens has a row of zeros. P and J are no more than M, and both tensors
contiguous.

`rms_norm` computes in float32 and rounds once. With `residual_TE` it first does residual += x in place and
norms the residual as stored. `unit_offset` multiplies by (1 + weight), as Gemma does; the weight is of x's
type. x, out and residual may also be [T, H, E] (the norms of single heads), and out may be x.

`rotary` rotates q and k in place; row p of cos_sin_PR (float32) holds R/2 cosines, then R/2 sines, for
position p (`positions_T` is int64); only the first R of D dimensions are rotated. Halves are paired
(i, i + R/2), or (2i, 2i + 1) when `interleaved`.

`rotate_store_kv` is `rms_norm` of the heads of q and k, where both weights are given, then `rotary`, then
`store_kv`, rounded wherever these round. q ends in place, k in the cache only: k_TKD stays as it was.

`act_mul` computes act(gate) * up, where gate is the first half of the last dimension; `activation` is "silu"
or "gelu_tanh".

`sample_tokens` draws from each row of V logits (float32, one of them finite) and writes its token id (int64).
Of probabilities at temperatures_R (float32) it keeps those of the top_ks_R (int32, V for all) largest logits
and their equals; of these the fewest, from the largest on, whose share reaches top_ps_R (float64, 1 for all;
of equals at the border the first); of these what is at least min_ps_R (float64) of the row's largest.
Probabilities count in units of 2^-40 of the largest, so sums are exact. The draw is the first token whose
cumulative share exceeds the uniform number that Philox4x32-10 makes of key seeds_R and counter positions_R
(int64, the bits of unsigned ones). At a temperature of 0 it is the first of the largest logits.

`gumbel_argmax` writes the first of each row's largest logit / temperature + noise or, at a temperature of 0,
of its largest logits. Token v's noise is -log(-log(1 - (w + 1/2) / 2^32)), w the word v % 4 of the four that
Philox4x32-10 makes of key seeds_R and counter (position, v // 4, 1): words of 64, 32 and 32 bits.
`filter_tokens` sets to -inf what `sample_tokens` would not keep, in rows that have a filter; a row without
one, or with a temperature of 0, stays as it is.

`sort_pairs` orders the pairs of a token and one of its k experts (int64, below X) by expert, then by token.
In int32 it gives the token of each place, the place of each pair and the place after each expert's last.
`sum_pairs` sums what became of a token's pairs, times their shares (float32), in the order of the pairs.
`grouped_linear` multiplies rows ends_X[g - 1]:ends_X[g] (int32) of x with the g-th of X weights; rows from
the last end on are left alone, and nothing is asked of the device: a CUDA graph can repeat it. So do its
kin. fp8 is e4m3, with a scale for every row of both factors.

Activations (q, k, v, x, residual, gate_up, out) may be slices of a wider tensor, as q is of a merged QKV
projection: only their last dimension has to be dense.
"""
