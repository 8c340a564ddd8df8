"""KV memory of a CPU, taken from the system a while before it is used.

The system finds a page for memory, and zeroes it, when it is first written. Pages of KV are large (2 MiB),
and a block has a part in each tensor of each layer: a step that is the first to come to a block beyond the
pages that are there waits for as many as there are tensors. A thread of low priority has them found before.

    stretches   0       1       2       3       4       5       6       7
    tensor      |  used | begun |        margin         |  not taken yet ...

A stretch is a number of blocks of every KV group. Allocators hand out blocks that were used before in
preference to others, and those in ascending order, so that the highest block so far says what comes next; of
one that did otherwise nothing would break, there would only be steps that wait.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from quire.interfaces.kv_cache import LayerCache
from quire.runtime.machine import find_pages, lower_priority

_PIECE = 2**21
"""Bytes asked for at once, a large page: while the system looks, no other thread can map memory."""
_STRETCH = 2**24
"""Bytes of a stretch, all tensors together."""
_LEAST_MARGIN = 4
"""Stretches beyond those begun: prompts of a second or two on a small machine."""
_MARGIN_SHARE = 8
"""In a large cache the margin is one part in so many of what is begun, as much is used at a time there."""
_NICENESS = 10

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class _Extent:
    """Where one tensor lies. It is known by address alone: whoever owns the tensor may let go of it."""

    group: int
    start: int
    end: int
    block_bytes: int
    found: int
    """The address up to which pages have been found."""


class PageAhead:
    """Keeps pages found some way beyond the blocks that steps use, until all are or until it is closed.

    Where the system cannot be asked to (it is not Linux 5.14 or later) or has no memory to give, the thread
    ends, and pages are found as they are used. `follow` is for the thread that computes steps.
    """

    def __init__(
        self,
        *,
        caches: Sequence[LayerCache],
        groups: Sequence[int],
        block_size: int,
        find: Callable[[int, int], None] = find_pages,
    ) -> None:
        """`caches[l]` and `groups[l]` are those of layer l; `find` gets address and size."""
        self._find = find
        self._extents: list[_Extent] = []
        for cache, group in zip(caches, groups, strict=True):
            for tensor in cache.tensors():
                start = tensor.data_ptr()
                self._extents.append(
                    _Extent(
                        group=group,
                        start=start,
                        end=start + tensor.nbytes,
                        block_bytes=tensor[0].nbytes,
                        found=start,
                    )
                )
        self._stretch = max(1, _STRETCH // sum(extent.block_bytes for extent in self._extents))
        self._stretch_tokens = self._stretch * block_size
        self._begun = [0] * (max(groups) + 1)
        """Stretches of each group in which a block has been used, those below included."""
        self._news = threading.Event()
        self._news.set()  # the first margin
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="quire-pages", daemon=True)
        self._thread.start()

    def follow(self, slots_GT: Sequence[np.ndarray]) -> None:
        """A step is about to write tokens to `slots_GT[g]` of each group."""
        for group, slots_T in enumerate(slots_GT):
            begun = int(slots_T.max()) // self._stretch_tokens + 1
            if begun > self._begun[group]:
                self._begun[group] = begun
                self._news.set()

    def stop(self) -> None:
        """End the thread soon."""
        self._stopped = True
        self._news.set()

    def close(self) -> None:
        """End the thread, and wait until it has: the tensors may go then. Idempotent."""
        self.stop()
        self._thread.join()

    def _work(self) -> None:
        lower_priority(_NICENESS)
        try:
            while not self._stopped and any(extent.found < extent.end for extent in self._extents):
                self._news.wait()
                self._news.clear()
                while not self._stopped and (extent := self._neediest()) is not None:
                    end = min((extent.found // _PIECE + 1) * _PIECE, extent.end)
                    self._find(extent.found, end - extent.found)
                    extent.found = end
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOSYS):
                _log.debug("the system finds KV memory as it is used, not ahead: %s", error)
            elif not self._stopped:
                _log.warning("KV memory is not found ahead of its use any more: %s", error)

    def _neediest(self) -> _Extent | None:
        """Of the tensors whose margin is not full the one that has least of it."""
        wanted = [
            self._stretch * (begun + max(_LEAST_MARGIN, begun // _MARGIN_SHARE)) for begun in self._begun
        ]
        needy: _Extent | None = None
        most = 0
        for extent in self._extents:
            if extent.found == extent.end:
                continue
            lacking = wanted[extent.group] - (extent.found - extent.start) // extent.block_bytes
            if lacking > most:
                needy, most = extent, lacking
        return needy
