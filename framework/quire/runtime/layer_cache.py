"""What a layer keeps of its tokens, by what its KV group says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.errors import MissingCapability
from quire.interfaces.kv_cache import KVGeometry

if TYPE_CHECKING:
    import torch

    from quire.interfaces.allocator import KVGroup
    from quire.interfaces.attention import AttentionBackend
    from quire.interfaces.kv_cache import KVCacheSpec, LatentCacheSpec


def cache_spec(
    attention: AttentionBackend,
    group: KVGroup,
    *,
    num_blocks: int,
    block_size: int,
    dtype: torch.dtype,
    kv_dtype: str,
) -> KVCacheSpec | LatentCacheSpec:
    """The cache of one layer of `group`, in a model of type `dtype`.

    Raises MissingCapability if the backend cannot keep such rows or heads, or not as `kv_dtype`.
    """
    geometry = KVGeometry(
        num_blocks=num_blocks,
        kv_heads=group.kv_heads,
        block_size=block_size,
        head_dim=group.head_dim,
        dtype=dtype,
        kv_dtype=kv_dtype,
        latent_dim=group.latent_dim,
    )
    if group.latent_dim is None:
        return attention.kv_cache_spec(geometry)
    if kv_dtype not in attention.latent_kv_dtypes:
        raise MissingCapability(
            f"engine.kv_dtype={kv_dtype}: {type(attention).__name__} keeps the latents of this model as "
            f"{', '.join(sorted(attention.latent_kv_dtypes))}"
        )
    return attention.latent_cache_spec(geometry)
