"""The engine's options, `engine.*` on the command line."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from quire.errors import UserError


class Preemption(enum.Enum):
    """What becomes of the KV of a sequence that gives way."""

    recompute = "recompute"
    """It is given up: all that the prefix cache does not happen to keep is computed again."""
    swap = "swap"
    """It is copied to host memory and back. Where it cannot be kept there it is given up, and counted as
    `swap_fallbacks`."""


class KVDtype(enum.Enum):
    """What a number in KV memory is kept as."""

    auto = "auto"
    """As the model computes it."""
    int8 = "int8"
    """As an integer of at most 127, times a scale for each token and head."""
    fp8_e4m3 = "fp8_e4m3"
    """As 8 bits of floating point (4 of exponent, 3 of mantissa), times a scale for each token and head."""


@dataclass
class EngineConfig:
    """Budgets of a step, size of the KV memory, and how the loop runs."""

    max_sequences: int = 64
    """Sequences that may hold memory and run at once."""
    max_step_tokens: int = 1024
    """Tokens computed in one step at most."""
    max_model_tokens: int | None = None
    """Longest sequence admitted, in tokens; null takes the model's own limit."""
    kv_bytes: str = "auto"
    """KV memory: bytes, a number with KiB, MiB, GiB, or auto: of free memory the part that the executor may
    take (executor.memory_fraction), and no more than max_sequences of the longest sequences fill."""
    block_size: int | None = None
    """Tokens per block of KV memory; null takes what the attention backend prefers."""
    kv_dtype: KVDtype = KVDtype.auto
    """What keys and values are kept as: auto (the model's own type), int8 or fp8_e4m3, which take half the
    memory of bfloat16."""
    preemption: Preemption = Preemption.recompute
    """What becomes of the KV of a sequence that gives way: recompute gives it up, swap keeps it in host
    memory (allocator.host_bytes), as far as there is room."""
    overlap: bool = True
    """Schedule step n + 1 while step n runs."""
    profile: bool = False
    """Time every phase of the loop: a table at the end of the run, a trace for Perfetto in its directory."""
    threads: int | None = None
    """CPU threads for computing; null takes what the machine (or its cgroup) grants."""

    def __post_init__(self) -> None:
        for name in ("max_sequences", "max_step_tokens", "max_model_tokens", "block_size", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"engine.{name}={value}: must be at least 1")
        if self.kv_bytes != "auto":
            parse_bytes(self.kv_bytes, field="engine.kv_bytes")


_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}


def parse_bytes(text: str, *, field: str) -> int:
    """'2GiB', '512 MiB' or '1000000' as a number of bytes."""
    digits = text.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    unit = text.strip()[len(digits) :].strip().lower()
    try:
        value = int(float(digits) * _UNITS[unit])
    except (KeyError, ValueError, OverflowError):
        raise UserError(f"{field}={text!r}: must be bytes such as 1000000, 512MiB or 2GiB") from None
    if value <= 0:
        raise UserError(f"{field}={text!r}: must be more than 0 bytes")
    return value
