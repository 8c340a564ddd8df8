"""Copies of whole KV blocks: between two blocks of the device, and to and from host memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from quire.engine.plan import CopiedBytes
from quire.interfaces.allocator import KVCopy, Place, Tier
from quire.interfaces.kv_cache import LayerCache


class BlockCopier:
    """Owns the blocks in host memory. Called by the runner, on its thread, before a step computes anything.

    On a GPU host memory is pinned, so that copies run at the full speed of the bus.
    """

    def __init__(
        self,
        *,
        caches: Sequence[LayerCache],
        groups: Sequence[int],
        host_blocks: Sequence[int],
        device: torch.device,
    ) -> None:
        """`caches[l]` and `groups[l]` are those of layer l; `host_blocks[g]` of group g, empty for none."""
        self._device = device
        num_groups = max(groups) + 1
        self._tensors: tuple[list[dict[Tier, torch.Tensor]], ...] = tuple([] for _ in range(num_groups))
        block_bytes = [0] * num_groups
        for cache, group in zip(caches, groups, strict=True):
            for tensor in cache.tensors():
                self._tensors[group].append({Tier.DEVICE: tensor})
                block_bytes[group] += tensor[0].nbytes
                if host_blocks:
                    self._tensors[group][-1][Tier.HOST] = torch.empty(
                        (host_blocks[group], *tensor.shape[1:]),
                        dtype=tensor.dtype,
                        pin_memory=device.type == "cuda",
                    )
        self._block_bytes = tuple(block_bytes)

    def run(self, copies: Sequence[KVCopy]) -> CopiedBytes:
        """Make `copies`, one after another. Returns when they are done, so that their time can be told from
        the model's.
        """
        for group, sources, targets, number in _runs(copies):
            for tensors in self._tensors[group]:
                source = tensors[sources.tier][sources.block : sources.block + number]
                target = tensors[targets.tier][targets.block : targets.block + number]
                target.copy_(source, non_blocking=True)
        if self._device.type == "cuda":
            torch.cuda.current_stream().synchronize()
        return CopiedBytes.of(copies, self._block_bytes)


def _runs(copies: Iterable[KVCopy]) -> Iterable[tuple[int, Place, Place, int]]:
    """Neighbouring blocks that go to neighbouring blocks of the other tier, taken together: the group, the
    first source and target, and how many there are.
    """
    first: KVCopy | None = None
    number = 0
    for copy in copies:
        if first is not None and copy == _shifted(first, number):
            number += 1
            continue
        if first is not None:
            yield first.group, first.source, first.target, number
        first, number = copy, 1
    if first is not None:
        yield first.group, first.source, first.target, number


def _shifted(copy: KVCopy, by: int) -> KVCopy | None:
    """The copy that would extend a run of `by` that begins with `copy`; None within one tier, where a run
    could overlap itself.
    """
    source, target = copy.source, copy.target
    if source.tier is target.tier:
        return None
    return KVCopy(copy.group, Place(source.tier, source.block + by), Place(target.tier, target.block + by))
