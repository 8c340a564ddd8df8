"""Weights in 4 bits by groups, activations as they are (Frantar et al., GPTQ, 2022, section 4, rounded to
nearest).

A quarter of bfloat16's memory, and less of its time where few rows meet a weight.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from quire_plugins.quantization.weight_only import WeightOnly, check_group_size


@dataclass
class W4A16Config:
    """Options of `quantization=w4a16`."""

    group_size: int = 64
    """Neighbours of a row that share a scale: 32, 64 or 128."""
    symmetric: bool = False
    """No zero of its own for each group: less to hold, and less accurate."""
    skip: list[str] = field(default_factory=lambda: ["head"])
    """Names of products to leave in the model's type, such as head or layers.0.*; `*` stands for anything."""

    def __post_init__(self) -> None:
        check_group_size(self.group_size)


class W4A16(WeightOnly):
    """4-bit weights by group, activations in the model's type; own kernels on a CPU and on a GPU."""

    Config = W4A16Config

    def __init__(self, *, config: W4A16Config, device: str) -> None:
        super().__init__(
            bits=4,
            group_size=config.group_size,
            symmetric=config.symmetric,
            skip=config.skip,
            device=device,
        )
