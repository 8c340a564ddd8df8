"""The eviction policy decides which cached prefix block is given up when memory is needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from quire.engine.queues import QueueView
    from quire.engine.sequence import SequenceView
    from quire.interfaces.allocator import PrefixHit


@dataclass(slots=True, kw_only=True, eq=False)
class CachedBlock:
    """A published block. Written by the allocator only; a policy reads it.

    `depth` is its index within its prefix (0 is the start); `hits` counts how often a sequence reused it;
    `last_use` is a counter that grows with every release; `key` identifies the content it holds, and `parent`
    that of the block before it (None at the start): without which it is of no use.
    """

    group: int
    block: int
    key: bytes
    depth: int
    parent: bytes | None = None
    hits: int = 0
    last_use: int = 0


class EvictionPolicy(ABC):
    """Orders the blocks that are cached and referenced by nobody. The allocator calls all of these."""

    Config: type[Any]

    @abstractmethod
    def add(self, block: CachedBlock) -> None:
        """The last reference to `block` went: it may be evicted from now on. A finished sequence's blocks
        come tail first, so that a prefix outlives what hangs on it.
        """

    @abstractmethod
    def remove(self, block: CachedBlock) -> None:
        """`block` is referenced again or was dropped: it must not be chosen any more."""

    @abstractmethod
    def victim(self, group: int) -> CachedBlock:
        """The block of `group` to give up next; there is at least one. The allocator then calls `remove`."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of blocks that could be evicted, of all groups."""

    def bind(self, queues: QueueView, match: Callable[[SequenceView], PrefixHit]) -> None:  # noqa: B027
        """The queues and the allocator's own `match`, which changes nothing, for a policy that protects what
        waiting requests will need. An optional hook, called once at start.
        """
