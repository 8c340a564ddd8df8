"""The KV allocator decides which blocks of the cache a sequence's tokens live in."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Sequence as BlockIds
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quire.engine.queues import QueueView
    from quire.engine.sequence import SequenceView


@dataclass(frozen=True, kw_only=True, slots=True)
class KVGroup:
    """Layers that share one block table: same heads, same head dimension, same window, all latent or none.

    `window` is in tokens: a query at position p sees keys at p - window < j <= p; None sees all.
    With a `latent_dim` a token has one row of `head_dim` numbers, its key and in part its value (see
    AttentionLayer); else each of its heads has a key and a value.
    """

    layers: tuple[int, ...]
    kv_heads: int
    head_dim: int
    window: int | None
    latent_dim: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class KVLayout:
    """How KV memory is cut: `num_blocks[g]` blocks of `block_size` tokens for each group g.

    Blocks are numbered from 0. No sequence is longer than `max_tokens` tokens (the model's limit), and no
    step computes more than `max_step_tokens` of one (None: any number): more than its window and that many
    a group with a window never has to hold of a sequence.
    """

    groups: tuple[KVGroup, ...]
    block_size: int
    num_blocks: tuple[int, ...]
    max_tokens: int
    max_step_tokens: int | None = None
    host_blocks: tuple[int, ...] = ()
    """Blocks of the same kind in host memory, for each group; empty if there are none."""

    @property
    def num_tokens(self) -> int:
        """Tokens of sequences that share nothing which fit in at once: the blocks of the smallest group that
        holds every token of a sequence, or of the smallest at all if each has a window.
        """
        pairs = zip(self.groups, self.num_blocks, strict=True)
        whole = [blocks for group, blocks in pairs if group.window is None]
        return min(whole or self.num_blocks) * self.block_size

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold that many tokens."""
        return -(-tokens // self.block_size)


class Tier(enum.Enum):
    """A memory that holds blocks."""

    DEVICE = "device"
    """Where the model reads and writes them."""
    HOST = "host"
    """Where they are only kept."""


@dataclass(frozen=True, slots=True)
class Place:
    """One block of one tier."""

    tier: Tier
    block: int


@dataclass(frozen=True, slots=True)
class KVCopy:
    """A whole block of `group` copied, all its layers. The source is as the copies before it left it."""

    group: int
    source: Place
    target: Place


@dataclass(frozen=True, kw_only=True, slots=True)
class PrefixHit:
    """The longest cached prefix of a sequence: `num_tokens` need not be computed.

    `blocks[g]` are the table entries of group g, in order. A number is a cached block that will be shared; a
    `Place` one that will be copied to a block of the sequence's own, because it lies elsewhere or is not
    whole; None stands where a window has already passed and no block is needed.
    """

    num_tokens: int
    blocks: tuple[tuple[int | Place | None, ...], ...]


@dataclass(kw_only=True, slots=True)  # not frozen for speed: each call of `stats` makes one of its own
class KVStats:
    """Blocks of all groups together. `free + used + cached == total` holds at any time.

    `used` is referenced by a sequence, `cached` holds a published prefix that no sequence references,
    `free` holds nothing. `tokens_held` counts the tokens that sequences asked room for: used blocks times
    the block size, less that, is memory wasted.
    """

    total: int
    free: int
    used: int
    cached: int
    tokens_held: int
    prefix_queries: int
    """Prompt tokens for which a cached prefix was looked for, since the start."""
    prefix_hits: int
    """Those of them found, since the start."""
    evictions: int
    """Cached blocks given up for others, since the start."""
    host_total: int = 0
    """Blocks of host memory, of all groups; those below are among them."""
    host_used: int = 0
    """Kept for sequences that were swapped out."""
    host_cached: int = 0
    """Published prefixes that no swapped sequence needs."""

    @property
    def usage(self) -> float:
        """Fraction of the blocks that sequences hold."""
        return self.used / self.total


class KVAllocator(ABC):
    """The only writer of free lists, block tables, reference counts and the prefix index.

    The step (for a policy) and the engine call it; a policy never does. A sequence is known from its first
    successful `grow` until `free`. Invariants, which `check_integrity` asserts: free + used + cached = total;
    a block's references equal the table entries that name it; no block that is shared or published is ever
    written; nothing is published before it was computed.
    """

    Config: type[Any]

    releases_windows: bool = False
    """Whether it gives up blocks that a group's window has passed; if not, such a group needs as many blocks
    as the others."""

    @classmethod
    def host_bytes(cls, config: Any) -> int:
        """How much host memory an allocator with these options keeps blocks in. Called before one is made."""
        del config
        return 0

    @abstractmethod
    def match(self, seq: SequenceView) -> PrefixHit:
        """The cached prefix that `seq` could start from, at most its tokens but one (the last must be
        computed, to sample from it). Nothing, if `seq` does not share prefixes; what was kept, if it was
        swapped out. Changes nothing and may be called at any time, for any waiting sequence.
        """

    @abstractmethod
    def grow(self, seq: SequenceView, num_tokens: int, hit: PrefixHit | None = None) -> bool:
        """Make room for the first `num_tokens` tokens of `seq`, all or nothing; False if memory lacks.

        A sequence that holds nothing yet starts from `hit` (as `match` returned it in this step), if given.
        Cached blocks may be evicted for it. Called by the step.
        """

    @abstractmethod
    def commit(self, seq: SequenceView, num_tokens: int) -> None:
        """The first `num_tokens` tokens are now really in memory: whole blocks of them may be published.

        Called by the engine after the step that computed them, for sequences that still hold their blocks.
        """

    @abstractmethod
    def free(self, seq: SequenceView) -> None:
        """`seq` gives up all its blocks (a no-op if it holds none). Published ones stay cached."""

    @abstractmethod
    def table(self, seq: SequenceView, group: int) -> BlockIds[int | None]:
        """Blocks of `seq` in `group`, in order of position; None where the window has passed."""

    @abstractmethod
    def fits(self, num_tokens: int) -> bool:
        """Whether one sequence of `num_tokens` tokens, alone in memory, could be held."""

    @abstractmethod
    def stats(self) -> KVStats:
        """Counts as of now; called after every step, so cheap."""

    @abstractmethod
    def check_integrity(self) -> None:
        """Assert every invariant, at any cost; called by tests after every step, and when idle."""

    def swap_out(self, seq: SequenceView) -> bool:
        """`seq` gives up its blocks, as by `free`, but what is computed of them is copied to host memory, for
        it to go on from: `match` then offers it. False, and nothing has changed, if it cannot be kept there.
        Called by the step.
        """
        del seq
        return False

    def take_copies(self) -> tuple[KVCopy, ...]:
        """Copies that became necessary since the last call, in their order. They are made before the next
        step computes anything. Called by the engine when it submits a step.
        """
        return ()

    def fork(self, parent: SequenceView, child: SequenceView) -> int:
        """`child` (the same tokens so far, holding nothing) shares whole blocks of `parent` that are computed
        and never written again, or has blocks copied; returns how many tokens it so holds. The default shares
        nothing.
        """
        del parent, child
        return 0

    def truncate(self, seq: SequenceView, num_tokens: int) -> None:  # noqa: B027 - optional hook
        """Room beyond the first `num_tokens` tokens is no longer needed (rejected drafts). May keep it."""

    def reset_cache(self) -> None:  # noqa: B027 - optional hook
        """Forget every published prefix that no sequence holds."""

    def bind(self, queues: QueueView) -> None:  # noqa: B027 - optional hook
        """The queues that an eviction policy may look at. Called once by the engine."""
