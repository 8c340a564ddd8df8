"""Random attention problems for the tests of every kernel implementation.

A case holds logical tensors only; `AttentionCase.run` lays them out through an implementation's own
`kv_cache_shapes` and `store_kv`, in blocks taken in random order from a cache filled with NaN. Only tokens
that some query row may see are ever written, and table entries that nobody needs hold nonsense.
"""

from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from quire_kernels import reference

NONSENSE_BLOCK = 2**30
CPU_TOLERANCE = {
    torch.float32: {"rtol": 2e-6, "atol": 2e-6},
    torch.bfloat16: {"rtol": 8e-3, "atol": 6e-3},  # weights and outputs are rounded to 8 bits
}
"""Of the C++ attention against float64."""


@dataclass(frozen=True, kw_only=True)
class AttentionCase:
    q_THD: Tensor
    k_LKD: Tensor  # all sequences' tokens, one sequence after another
    v_LKD: Tensor
    tables_SM: Tensor
    query_starts_S1: Tensor
    seq_lens_S: Tensor
    slots_L: Tensor  # negative where no query row sees the token
    alibi_slopes_H: Tensor | None
    sinks_H: Tensor | None
    num_blocks: int
    block_size: int
    window: int | None
    softcap: float | None
    scale: float

    def cache(self, ops: ModuleType, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """K and V of `ops`, NaN wherever no visible token is stored."""
        k_cache, v_cache, _ = self.eight_bit_cache(ops, dtype, None)
        return k_cache, v_cache

    def eight_bit_cache(
        self, ops: ModuleType, dtype: torch.dtype, kv_dtype: torch.dtype | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The same with elements of `kv_dtype`, and the scales by the names that the functions of `ops` have
        for them; none where `kv_dtype` is None.
        """
        _, kv_heads, head_dim = self.k_LKD.shape
        shapes = ops.kv_cache_shapes(self.num_blocks, kv_heads, self.block_size, head_dim, dtype)
        device = self.q_THD.device
        k_cache, v_cache = (torch.empty(shape, dtype=kv_dtype or dtype, device=device) for shape in shapes)
        for cache in (k_cache, v_cache):
            if kv_dtype is None:
                cache.fill_(float("nan"))
            else:
                cache.view(torch.uint8).fill_(255)  # NaN in float8, and the scales of int8 are
        scales = {
            name: torch.full((self.num_blocks, kv_heads, self.block_size), float("nan"), device=device)
            for name in ("k_scales_NKB", "v_scales_NKB")
            if kv_dtype is not None
        }
        ops.store_kv(self.k_LKD.to(dtype), self.v_LKD.to(dtype), k_cache, v_cache, self.slots_L, **scales)
        return k_cache, v_cache, scales

    def run(
        self,
        ops: ModuleType,
        dtype: torch.dtype,
        *,
        kv_dtype: torch.dtype | None = None,
        planned: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Output [T, H, D] in `dtype` and log-sum-exp [T, H] of `ops.paged_attention`."""
        k_cache, v_cache, scales = self.eight_bit_cache(ops, dtype, kv_dtype)
        q_THD = self.q_THD.to(dtype)
        out_THD = torch.full_like(q_THD, float("nan"))
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        lse_TH = torch.full(q_THD.shape[:2], float("nan"), dtype=wide, device=q_THD.device)
        plan = None
        if planned:
            plan = ops.plan_attention(
                self.query_starts_S1,
                self.seq_lens_S,
                heads=q_THD.shape[1],
                kv_heads=self.k_LKD.shape[1],
                block_size=self.block_size,
                window=self.window,
            )
        ops.paged_attention(
            q_THD,
            k_cache,
            v_cache,
            self.tables_SM,
            self.query_starts_S1,
            self.seq_lens_S,
            out_THD,
            scale=self.scale,
            window=self.window,
            softcap=self.softcap,
            alibi_slopes_H=self.alibi_slopes_H,
            sinks_H=self.sinks_H,
            lse_TH=lse_TH,
            plan=plan,
            **scales,
        )
        return out_THD, lse_TH

    def expected(self, kv_dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """The reference in float64; of what was rounded to `kv_dtype`, if that is given."""
        return self.run(reference, torch.float64, kv_dtype=kv_dtype)


def attention_case(
    sequences: list[tuple[int, int]],
    *,
    heads: int,
    kv_heads: int,
    head_dim: int,
    block_size: int,
    window: int | None = None,
    softcap: float | None = None,
    alibi: bool = False,
    sinks: bool = False,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seed: int = 0,
) -> AttentionCase:
    """A case of (query rows, cached tokens) per sequence; values are exact in `dtype`."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float32).to(dtype).to(device)

    blocks_S = [-(-length // block_size) for _, length in sequences]
    num_blocks = sum(blocks_S) + 3
    shuffled = torch.randperm(num_blocks, generator=generator, dtype=torch.int32)
    tables_SM = torch.full((len(sequences), max(blocks_S) + 1), NONSENSE_BLOCK, dtype=torch.int32)
    slots = []
    used = 0
    for s, (queries, length) in enumerate(sequences):
        blocks = shuffled[used : used + blocks_S[s]]
        used += blocks_S[s]
        visible_from = length
        if queries > 0:
            visible_from = 0 if window is None else max(0, length - queries - window + 1)
        first_block = visible_from // block_size
        tables_SM[s, first_block : blocks_S[s]] = blocks[first_block:]
        tokens = torch.arange(length)
        slot_of = blocks.long()[tokens // block_size] * block_size + tokens % block_size
        slots.append(torch.where(tokens >= visible_from, slot_of, -1))

    tokens_total = sum(length for _, length in sequences)
    query_counts = torch.tensor([0] + [queries for queries, _ in sequences])
    return AttentionCase(
        q_THD=normal(int(query_counts.sum()), heads, head_dim),
        k_LKD=normal(tokens_total, kv_heads, head_dim),
        v_LKD=normal(tokens_total, kv_heads, head_dim),
        tables_SM=tables_SM.to(device),
        query_starts_S1=query_counts.cumsum(0).to(torch.int32).to(device),
        seq_lens_S=torch.tensor([length for _, length in sequences], dtype=torch.int32).to(device),
        slots_L=torch.cat(slots).to(device),
        alibi_slopes_H=(0.5 ** torch.linspace(1, 8, heads)).to(device) if alibi else None,
        sinks_H=torch.randn(heads, generator=generator).to(device) if sinks else None,
        num_blocks=num_blocks,
        block_size=block_size,
        window=window,
        softcap=softcap,
        scale=head_dim**-0.5,
    )


def mixed_sequences(block_size: int) -> list[tuple[int, int]]:
    """Prefill, chunk, decode and draft rows around every block boundary, in one batch."""
    b = block_size
    prefills = [(1, 1), (b - 1, b - 1), (b + 1, b + 1)]
    return [(1, b), *prefills, (3, b + 1), (1, 2 * b - 1), (5, 2 * b + 3), (0, 7)]


def decode_latents(
    ops: ModuleType,
    case: AttentionCase,
    q_THW: Tensor,
    *,
    latent_dim: int,
    scale: float,
    planned: bool = True,
) -> tuple[Tensor, Tensor]:
    """Output [T, H, V] and log-sum-exp [T, H] of `ops.mla_decode`, a case's keys of one head for latents.

    Everything is computed in the type of `q_THW`; slots that hold no token are NaN.
    """
    k_cache, _ = case.cache(reference, q_THW.dtype)
    tokens, heads, _ = q_THW.shape
    out_THV = torch.full((tokens, heads, latent_dim), float("nan"), dtype=q_THW.dtype)
    wide = torch.float64 if q_THW.dtype == torch.float64 else torch.float32
    lse_TH = torch.full((tokens, heads), float("nan"), dtype=wide)
    step = (case.query_starts_S1, case.seq_lens_S)
    plan = None
    if planned:
        plan = ops.plan_attention(*step, heads=heads, kv_heads=1, block_size=case.block_size)
    ops.mla_decode(
        q_THW, k_cache[:, 0], case.tables_SM, *step, out_THV, scale=scale, lse_TH=lse_TH, plan=plan
    )
    return out_THV, lse_TH
