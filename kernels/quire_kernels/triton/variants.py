"""The kernel variants that are compiled ahead of time: those that models ask for, family by family."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triton import JITFunction

    from quire_kernels.triton.launch import Architecture, Launch

FAMILIES = (
    "attention",
    "merge",
    "mla",
    "latents",
    "quest",
    "cache",
    "norm",
    "rotary",
    "activation",
    "rotate_store",
    "sampling",
    "gumbel",
    "products",
    "pairs",
    "grouped",
    "groupwise",
    "fp8",
)
"""Modules of this package. Each has `variants(architecture) -> Iterator[Variant]`."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One kernel with the types of its arguments and its launch configuration.

    `types` gives Triton's name of a parameter's type, or None where None is passed. The parameters that it
    leaves out are compile-time constants, if the launch has them, and i32 otherwise. `unaligned` strides
    need not be multiples of 16; all others are, and so are the sizes in `aligned`.
    """

    name: str
    kernel: JITFunction
    types: dict[str, str | None]
    launch: Launch
    unaligned: frozenset[str] = frozenset()
    aligned: frozenset[str] = frozenset()
    scratch_allowed: int = 0
    """Bytes a thread of device memory that registers may spill to."""


def variants(architecture: Architecture) -> dict[str, list[Variant]]:
    """The variants of each family, with the launch configurations of one architecture."""
    return {
        family: list(import_module(f"quire_kernels.triton.{family}").variants(architecture))
        for family in FAMILIES
    }
