"""Products of sorted rows with one weight per group, as torch offers them for GPUs."""

from __future__ import annotations

from collections.abc import Iterable
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


class GroupedMM:
    """`torch.nn.functional.grouped_mm`, which reads the ends of the groups on the device."""

    capturable = True

    def __init__(self, weights: Iterable[torch.Tensor]) -> None:
        import torch
        from torch.nn import functional

        self._multiply = functional.grouped_mm
        self._weight_GIO = torch.stack(list(weights)).transpose(1, 2)

    def __call__(self, x_TI: torch.Tensor, ends_G: torch.Tensor) -> torch.Tensor:
        return self._multiply(x_TI, self._weight_GIO, offs=ends_G)
