"""Least frequently used: the cached block that sequences reused least often goes first."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from quire.errors import UserError
from quire.interfaces import CachedBlock, EvictionPolicy


@dataclass
class NewPluginConfig:
    """Options of `eviction=new_plugin`."""

    depth_weight: float = 0.0
    """Hits that a block is taken to have fewer for each block before it in its prefix."""

    def __post_init__(self) -> None:
        if not self.depth_weight >= 0:
            raise UserError(f"eviction.depth_weight={self.depth_weight}: must be at least 0")


class NewPlugin(EvictionPolicy):
    """Fewest hits first; of equals the least recently used. Choosing takes time linear in the blocks."""

    Config = NewPluginConfig

    def __init__(self, *, config: NewPluginConfig) -> None:
        self._depth_weight = config.depth_weight
        self._blocks: defaultdict[int, dict[int, CachedBlock]] = defaultdict(dict)

    def add(self, block: CachedBlock) -> None:
        self._blocks[block.group][block.block] = block

    def remove(self, block: CachedBlock) -> None:
        del self._blocks[block.group][block.block]

    def victim(self, group: int) -> CachedBlock:
        return min(self._blocks[group].values(), key=self._worth)

    def _worth(self, block: CachedBlock) -> tuple[float, int]:
        return block.hits - self._depth_weight * block.depth, block.last_use

    def __len__(self) -> int:
        return sum(len(blocks) for blocks in self._blocks.values())
