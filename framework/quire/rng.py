"""Randomness without state: seeds derived from names, draws that are a function of (seed, position).

A draw depends on no generator that others advance, so it is the same whatever else is in the batch, in which
slot the sequence sits, in which order steps run, and after any preemption.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_LOW = 0xFFFFFFFF


def derive_seed(*parts: int | str) -> int:
    """A 64 bit seed named by `parts`, for instance (run seed, "workload") or (request seed, sample index).

    The same parts in the same order give the same seed in every process, Python version and machine; 1 and
    "1" differ, as do ("ab", "c") and ("a", "bc").
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        kind, text = ("s", part) if isinstance(part, str) else ("i", str(int(part)))
        payload = text.encode(errors="surrogatepass")  # a client may call its request anything
        digest.update(f"{kind}{len(payload)}:".encode() + payload)
    return int.from_bytes(digest.digest(), "little")


@overload
def uniform(seed: int, position: int) -> float: ...
@overload
def uniform(seed: npt.NDArray[np.uint64], position: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]: ...
def uniform(
    seed: int | npt.NDArray[np.uint64], position: int | npt.NDArray[np.uint64]
) -> float | npt.NDArray[np.float64]:
    """The uniform draw in [0, 1) of each (seed, position): 53 random bits. Both are 64 bit, unsigned.

    Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011),
    keyed by the seed, with the position as the counter.
    """
    counter = (position & _LOW, position >> 32, position & 0, position & 0)
    high, low, _, _ = philox4x32(counter, (seed & _LOW, seed >> 32))
    return ((high << 21) | (low >> 11)) * 2.0**-53


def philox4x32(counter: tuple[Any, Any, Any, Any], key: tuple[Any, Any]) -> tuple[Any, Any, Any, Any]:
    """Ten rounds of Philox4x32: four random 32 bit words from four words of counter and two of key.

    Words are Python integers below 2**32, or uint64 arrays or int64 tensors of them.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        even, odd = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        # Products of int64 wrap, and their sign fills what the shift leaves: hence the masks.
        high_odd, high_even = odd >> 32 & _LOW, even >> 32 & _LOW
        c0, c1, c2, c3 = high_odd ^ c1 ^ k0, odd & _LOW, high_even ^ c3 ^ k1, even & _LOW
        k0, k1 = (k0 + 0x9E3779B9) & _LOW, (k1 + 0xBB67AE85) & _LOW
    return c0, c1, c2, c3
