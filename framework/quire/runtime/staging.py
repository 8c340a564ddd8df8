"""One host-to-device copy a step: arrays packed into one buffer there, and cut apart again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_ALIGN = 16
"""Bytes: kernels load several elements at once."""


def to_device(arrays: list[np.ndarray], device: torch.device) -> list[torch.Tensor]:
    """The arrays as tensors on `device`. On a CPU they share the arrays' memory."""
    import torch

    tensors = [torch.from_numpy(array) for array in arrays]
    if device.type == "cpu":
        return tensors
    starts, end = list[int](), 0
    for array in arrays:
        starts.append(end)
        end += -(-array.nbytes // _ALIGN) * _ALIGN
    staging = torch.empty(end, dtype=torch.uint8, pin_memory=True)
    for start, tensor, array in zip(starts, tensors, arrays, strict=True):
        staging[start : start + array.nbytes].view(tensor.dtype).copy_(tensor.view(-1))
    on_device = staging.to(device, non_blocking=True)
    return [
        on_device[start : start + array.nbytes].view(tensor.dtype).view(tensor.shape)
        for start, tensor, array in zip(starts, tensors, arrays, strict=True)
    ]
