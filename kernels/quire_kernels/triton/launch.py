"""Launch configurations: a plain function of architecture and shape, the same on every run.

Nothing is tuned at run time. A configuration is therefore known before a GPU is, and `compile_all` compiles
every one that `variants` lists, for each architecture, on a machine that has no GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from triton import knobs, next_power_of_2

if TYPE_CHECKING:
    import torch

MAX_HEAD_DIM = 256
MAX_GROUP = 128
MAX_DECODE_ROWS = 32  # rows of a query tile up to which a sequence counts as decoding
MAX_NORM_SIZE = 16384
_PROGRAMS_PER_PROCESSOR = 2
_MIN_SHARE_TOKENS = 256  # with fewer the merge costs more than the parallelism gains
_ELEMENTS_PER_PROGRAM = 1024  # of an element-wise kernel: eight per thread at four warps


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What a configuration depends on: the compilation target, its shared memory and its size."""

    name: str
    backend: str
    arch: int | str
    warp_size: int
    shared_bytes: int  # of shared memory that one program may use
    processors: int  # streaming multiprocessors or compute units


# A100; GeForce and workstation parts, which have less shared memory; H100; MI300X.
ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            name="sm_80", backend="cuda", arch=80, warp_size=32, shared_bytes=166_912, processors=108
        ),
        Architecture(
            name="sm_86", backend="cuda", arch=86, warp_size=32, shared_bytes=101_376, processors=84
        ),
        Architecture(
            name="sm_90", backend="cuda", arch=90, warp_size=32, shared_bytes=232_448, processors=132
        ),
        Architecture(
            name="gfx942", backend="hip", arch="gfx942", warp_size=64, shared_bytes=65_536, processors=304
        ),
    )
}


class _Tile(NamedTuple):
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
# memory fits (resources.json has the numbers). Chosen from what the compiler reports, not from measurements.
_PREFILL = {
    "sm_80": {64: _Tile(64, 64, 4, 5), 128: _Tile(64, 32, 4, 5), 256: _Tile(64, 32, 8, 5)},
    "sm_86": {64: _Tile(64, 64, 4, 5), 128: _Tile(64, 32, 4, 5), 256: _Tile(64, 16, 8, 5)},
    "sm_90": {64: _Tile(128, 64, 8, 5), 128: _Tile(128, 64, 8, 5), 256: _Tile(128, 32, 8, 5)},
    "gfx942": {64: _Tile(128, 64, 4, 3), 128: _Tile(128, 32, 4, 3), 256: _Tile(64, 32, 4, 3)},
}
_DECODE = {
    "cuda": {64: _Tile(16, 128, 4, 5), 128: _Tile(16, 64, 4, 5), 256: _Tile(16, 32, 4, 5)},
    "hip": {64: _Tile(16, 64, 4, 3), 128: _Tile(16, 64, 4, 3), 256: _Tile(16, 32, 4, 3)},
}
# NVIDIA's matrix units take no IEEE float32. Scalar products keep their operands in registers: small tiles.
_PREFILL_FLOAT32 = {
    "cuda": dict.fromkeys((64, 128, 256), _Tile(32, 16, 8, 5)),
    "hip": {64: _Tile(64, 32, 4, 3), 128: _Tile(64, 16, 4, 3), 256: _Tile(32, 16, 4, 3)},
}
_DECODE_FLOAT32 = {
    "cuda": dict.fromkeys((64, 128, 256), _Tile(16, 16, 8, 5)),
    "hip": dict.fromkeys((64, 128, 256), _Tile(16, 16, 4, 3)),
}


@dataclass(frozen=True, kw_only=True)
class Launch:
    """The compile-time half of a kernel launch."""

    constants: dict[str, int | bool]
    num_warps: int
    num_stages: int = 1

    def options(self) -> dict[str, int | bool]:
        """The compiler's options; floating-point fusion is among them because its default is changing."""
        return {"num_warps": self.num_warps, "num_stages": self.num_stages, "enable_fp_fusion": True}

    def keywords(self) -> dict[str, int | bool]:
        """What a kernel call takes by keyword."""
        return {**self.constants, **self.options()}


@cache
def architecture_of(device: torch.device) -> Architecture:
    """The architecture whose configurations a device uses; the interpreter, on a CPU, plays an H100."""
    if device.type == "cpu":
        if not knobs.runtime.interpret:
            raise ValueError("device 'cpu' cannot run Triton kernels; supported: cuda (NVIDIA, AMD)")
        return replace(ARCHITECTURES["sm_90"], processors=4)
    if device.type != "cuda":
        raise ValueError(f"device {device.type!r} cannot run these kernels; supported: cuda (NVIDIA, AMD)")
    import torch

    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip is not None:
        name = properties.gcnArchName.split(":")[0]
        if name not in ("gfx942", "gfx950"):
            raise ValueError(f"GPU {name!r} has no launch configuration; supported: gfx942, gfx950")
        family = "gfx942"
    elif properties.major < 8:
        capability = f"{properties.major}.{properties.minor}"
        raise ValueError(f"GPU compute capability {capability} is too old; supported: 8.0 and later")
    elif properties.shared_memory_per_block_optin < ARCHITECTURES["sm_80"].shared_bytes:
        family = "sm_86"
    else:
        family = "sm_90" if properties.major in (9, 10) else "sm_80"
    return replace(ARCHITECTURES[family], processors=properties.multi_processor_count)


def is_decode(*, group: int, max_query_len: int) -> bool:
    """Whether every sequence of a step fits one small query tile: reading the cache then takes the time."""
    return max_query_len * group <= MAX_DECODE_ROWS


@cache
def attention(
    architecture: Architecture,
    *,
    itemsize: int,
    head_dim: int,
    block_size: int,
    group: int,
    max_query_len: int,
) -> Launch:
    """Both attention kernels: TILE_M rows (tokens x heads of a group) by TILE_N keys.

    `itemsize` is in bytes. A decoding step gets the smallest tile that holds a sequence's rows, any other one
    that keeps the matrix units busy.
    """
    padded_dim = max(16, next_power_of_2(head_dim))
    bucket = max(64, padded_dim)
    if is_decode(group=group, max_query_len=max_query_len):
        tiles = (_DECODE_FLOAT32 if itemsize == 4 else _DECODE)[architecture.backend]
        tile = tiles[bucket]
        tile = tile._replace(m=max(tile.m, next_power_of_2(max_query_len * group)))
    else:
        tiles = _PREFILL_FLOAT32[architecture.backend] if itemsize == 4 else _PREFILL[architecture.name]
        tile = tiles[bucket]
        tile = tile._replace(m=max(tile.m, next_power_of_2(group)))
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


def attention_merge(*, head_dim: int) -> Launch:
    """The merge of shares: one row a program, 16 shares at a time."""
    return Launch(
        constants={"HEAD_DIM": head_dim, "PADDED_DIM": max(16, next_power_of_2(head_dim)), "TILE_C": 16},
        num_warps=4,
    )


def store_kv(*, kv_heads: int, head_dim: int) -> Launch:
    """The cache store: TILE_H heads of one token a program."""
    padded_dim = next_power_of_2(head_dim)
    tile_h = max(1, min(next_power_of_2(kv_heads), _ELEMENTS_PER_PROGRAM // padded_dim))
    return Launch(constants={"HEAD_DIM": head_dim, "PADDED_DIM": padded_dim, "TILE_H": tile_h}, num_warps=4)


def rms_norm(*, size: int, unit_offset: bool) -> Launch:
    """RMSNorm: TILE_R whole rows a program, at most 32 elements a thread."""
    padded_size = next_power_of_2(size)
    return Launch(
        constants={
            "SIZE": size,
            "PADDED_SIZE": padded_size,
            "TILE_R": max(1, _ELEMENTS_PER_PROGRAM // padded_size),
            "UNIT_OFFSET": unit_offset,
        },
        num_warps=min(16, max(4, padded_size // 1024)),
    )


def rotary(*, rotated: int, heads: int, interleaved: bool) -> Launch:
    """Rotary embedding: TILE_H heads of one token a program."""
    padded_pairs = next_power_of_2(rotated // 2)
    tile_h = max(1, min(next_power_of_2(heads), _ELEMENTS_PER_PROGRAM // padded_pairs))
    return Launch(
        constants={
            "PAIRS": rotated // 2,
            "PADDED_PAIRS": padded_pairs,
            "TILE_H": tile_h,
            "INTERLEAVED": interleaved,
        },
        num_warps=4,
    )


def act_mul(*, silu: bool) -> Launch:
    """Gated activation: TILE_I columns of one token a program."""
    return Launch(constants={"SILU": silu, "TILE_I": _ELEMENTS_PER_PROGRAM}, num_warps=4)
