"""Weights in 8 bits by groups, activations as they are (Dettmers et al., "8-bit optimizers via block-wise
quantization", 2022, section 2.1, for its blocks, here rounded evenly).

Half of bfloat16's memory at hardly any loss: the careful choice where memory, not speed, is what lacks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from quire_plugins.quantization.weight_only import WeightOnly, check_group_size


@dataclass
class W8A16Config:
    """Options of `quantization=w8a16`."""

    group_size: int = 128
    """Neighbours of a row that share a scale: 32, 64 or 128."""
    symmetric: bool = False
    """No zero of its own for each group: less to hold, and less accurate."""
    skip: list[str] = field(default_factory=list)
    """Names of products to leave in the model's type, such as head or layers.0.*; `*` stands for anything."""

    def __post_init__(self) -> None:
        check_group_size(self.group_size)


class W8A16(WeightOnly):
    """8-bit weights by group, activations in the model's type; own kernels on a CPU and on a GPU."""

    Config = W8A16Config

    def __init__(self, *, config: W8A16Config, device: str) -> None:
        super().__init__(
            bits=8,
            group_size=config.group_size,
            symmetric=config.symmetric,
            skip=config.skip,
            device=device,
        )
