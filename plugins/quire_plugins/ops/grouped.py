"""Products of sorted rows with one weight per group, as torch offers them for GPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def runs_grouped_mm(weight_OI: torch.Tensor) -> bool:
    """Whether torch's grouped product takes such weights: bfloat16 in rows of 16 bytes, from sm_80 on."""
    import torch

    return (
        weight_OI.is_cuda
        and torch.version.cuda is not None
        and weight_OI.dtype == torch.bfloat16
        and not any(size % 8 for size in weight_OI.shape)
        and torch.cuda.get_device_capability(weight_OI.device) >= (8, 0)
    )


def grouped_mm(weights: Iterable[torch.Tensor]) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """`Ops.grouped_linear` without a question to the device, which reads the ends of the groups by itself."""
    import torch
    from torch.nn import functional

    stacked_GIO = torch.stack(list(weights)).transpose(1, 2)

    def multiply(x_TI: torch.Tensor, ends_G: torch.Tensor) -> torch.Tensor:
        return functional.grouped_mm(x_TI, stacked_GIO, offs=ends_G)

    return multiply
