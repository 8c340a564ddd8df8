"""Names of whole blocks by content: each key is a digest of the key before it and the block's tokens."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import blake2b


class PrefixKeys:
    """The keys of one sequence, computed once each as its tokens become known.

    A key therefore stands for all tokens up to the end of its block, as the block's keys and values depend
    on all of them. It must not collide, or one caller would be served another's text: 128 bits of BLAKE2b.
    """

    __slots__ = ("_block_size", "_keys")

    def __init__(self, *, block_size: int, keys: Sequence[bytes] = ()) -> None:
        self._block_size = block_size
        self._keys = list(keys)

    @property
    def known(self) -> Sequence[bytes]:
        """The keys computed so far."""
        return self._keys

    def key(self, index: int, token_ids: Sequence[int]) -> bytes:
        """The key of block `index`; its tokens are among `token_ids`, the sequence's own from the start."""
        keys = self._keys
        if index < len(keys):
            return keys[index]
        size = self._block_size
        parent = keys[-1] if keys else b""
        for i in range(len(keys), index + 1):
            tokens = struct.pack(f"<{size}i", *token_ids[i * size : (i + 1) * size])
            parent = blake2b(parent + tokens, digest_size=16).digest()
            keys.append(parent)
        return parent
