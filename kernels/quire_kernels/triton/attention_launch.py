"""How the attention kernels are launched: tiles by architecture, type and head size; shares by length."""

from __future__ import annotations

from typing import NamedTuple

from triton import next_power_of_2

from quire_kernels.triton.launch import Architecture, Launch
from quire_kernels.triton.tuned import remembers_tiles, tile_for

MAX_HEAD_DIM = 256
MAX_GROUP = 128
MAX_DECODE_ROWS = 32  # rows of a query tile up to which a sequence counts as decoding
_PROGRAMS_PER_PROCESSOR = 2
_MIN_SHARE_TOKENS = 256  # with fewer the merge costs more than the parallelism gains


class KeyTile(NamedTuple):
    """Rows of queries, keys, warps and pipeline stages.

    The address of a key hangs on a loaded entry of the block table, so that on NVIDIA it takes five stages,
    not three, to have the next tile on its way while one is computed; on AMD, where the next tile waits in
    registers, it takes three.
    """

    m: int
    n: int
    warps: int
    stages: int


# By padded head dimension: large tiles with which registers don't spill, whatever the options, and shared
# memory fits (resources/attention.json has the numbers). Chosen from what the compiler reports, not from
# measurements.
_PREFILL = {
    "sm_80": {64: KeyTile(64, 64, 4, 5), 128: KeyTile(64, 32, 4, 5), 256: KeyTile(64, 32, 8, 5)},
    "sm_86": {64: KeyTile(64, 64, 4, 5), 128: KeyTile(64, 32, 4, 5), 256: KeyTile(64, 16, 8, 5)},
    "sm_90": {64: KeyTile(128, 64, 8, 5), 128: KeyTile(128, 64, 8, 5), 256: KeyTile(128, 32, 8, 5)},
    "gfx942": {64: KeyTile(128, 64, 4, 3), 128: KeyTile(128, 32, 4, 3), 256: KeyTile(64, 32, 4, 3)},
}
_DECODE = {
    "cuda": {64: KeyTile(16, 128, 4, 5), 128: KeyTile(16, 64, 4, 5), 256: KeyTile(16, 32, 4, 5)},
    "hip": {64: KeyTile(16, 64, 4, 3), 128: KeyTile(16, 64, 4, 3), 256: KeyTile(16, 32, 4, 3)},
}
# NVIDIA's matrix units take no IEEE float32. Scalar products keep their operands in registers: small tiles.
_PREFILL_FLOAT32 = {
    "cuda": dict.fromkeys((64, 128, 256), KeyTile(32, 16, 8, 5)),
    "hip": {64: KeyTile(64, 32, 4, 3), 128: KeyTile(64, 16, 4, 3), 256: KeyTile(32, 16, 4, 3)},
}
_DECODE_FLOAT32 = {
    "cuda": dict.fromkeys((64, 128, 256), KeyTile(16, 16, 8, 5)),
    "hip": dict.fromkeys((64, 128, 256), KeyTile(16, 16, 4, 3)),
}


def is_decode(*, group: int, max_query_len: int) -> bool:
    """Whether every sequence of a step fits one small query tile: reading the cache then takes the time."""
    return max_query_len * group <= MAX_DECODE_ROWS


@remembers_tiles
def launch_attention(
    architecture: Architecture,
    *,
    itemsize: int,
    cache_itemsize: int,
    head_dim: int,
    block_size: int,
    group: int,
    max_query_len: int,
) -> Launch:
    """Both attention kernels: TILE_M rows (tokens x heads of a group) by TILE_N keys.

    `itemsize` is in bytes, and so is `cache_itemsize`, of what the cache holds. A decoding step gets the
    smallest tile that holds a sequence's rows, any other one that keeps the matrix units busy.
    """
    padded_dim = max(16, next_power_of_2(head_dim))
    bucket = max(64, padded_dim)
    decodes = is_decode(group=group, max_query_len=max_query_len)
    if decodes:
        tiles = (_DECODE_FLOAT32 if itemsize == 4 else _DECODE)[architecture.backend]
        tile = tile_for(architecture, "attention", f"decode-x{itemsize}-d{bucket}", tiles[bucket])
        tile = tile._replace(m=max(tile.m, next_power_of_2(max_query_len * group)))
    else:
        tiles = _PREFILL_FLOAT32[architecture.backend] if itemsize == 4 else _PREFILL[architecture.name]
        tile = tile_for(architecture, "attention", f"prefill-x{itemsize}-d{bucket}", tiles[bucket])
        tile = tile._replace(m=max(tile.m, next_power_of_2(group)))
    if cache_itemsize < itemsize:
        tile = _tile_of_codes(architecture, itemsize, tile, decodes)
    return Launch(
        constants={
            "GROUP": group,
            "HEAD_DIM": head_dim,
            "PADDED_DIM": padded_dim,
            "BLOCK_SIZE": block_size,
            "TILE_M": tile.m,
            "TILE_N": tile.n,
        },
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


def _tile_of_codes(architecture: Architecture, itemsize: int, tile: KeyTile, decodes: bool) -> KeyTile:
    """The tile for a cache of 8 bits: keys and values pass through registers to become what is multiplied."""
    if architecture.backend == "cuda":
        # The operands of scalar products lie there as well; of two tiles in a pipeline they don't fit.
        return tile._replace(stages=1) if itemsize == 4 else tile
    # The next tile waits there, too. With fewer keys a unit's registers are enough for two programs.
    return tile._replace(n=min(tile.n, 32)) if decodes else tile


def attention_shares(
    architecture: Architecture,
    *,
    sequences: int,
    kv_heads: int,
    max_query_len: int,
    max_seq_len: int,
    window: int | None,
) -> int:
    """How many programs share the keys of a sequence: to fill the GPU, none with too little to do."""
    visible = max_seq_len if window is None else min(max_seq_len, window + max_query_len - 1)
    to_fill = _PROGRAMS_PER_PROCESSOR * architecture.processors // (sequences * kv_heads)
    return max(1, min(to_fill, visible // _MIN_SHARE_TOKENS))
