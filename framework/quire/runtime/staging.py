"""One host-to-device copy a step: arrays packed into one buffer there, and cut apart again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_ALIGN = 16
"""Bytes: kernels load several elements at once."""


class Staging:
    """Where arrays of the types and shapes of `arrays` lie in one buffer."""

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        import torch

        self._places: list[tuple[int, int, torch.dtype, tuple[int, ...]]] = []
        self.num_bytes = 0
        for array in arrays:
            dtype = torch.from_numpy(array).dtype
            self._places.append((self.num_bytes, self.num_bytes + array.nbytes, dtype, array.shape))
            self.num_bytes += -(-array.nbytes // _ALIGN) * _ALIGN

    def cut(self, buffer: torch.Tensor) -> list[torch.Tensor]:
        """The arrays' places in `buffer`, of `num_bytes` bytes, as tensors that share its memory."""
        return [buffer[start:end].view(dtype).view(shape) for start, end, dtype, shape in self._places]

    def pack(self, arrays: Sequence[np.ndarray], *, pinned: bool) -> torch.Tensor:
        """The bytes of `arrays` in host memory, `pinned` so that a GPU may fetch them by itself."""
        import torch

        buffer = torch.empty(self.num_bytes, dtype=torch.uint8, pin_memory=pinned)
        for place, array in zip(self.cut(buffer), arrays, strict=True):
            place.copy_(torch.from_numpy(array))
        return buffer


def to_device(arrays: Sequence[np.ndarray], device: torch.device) -> list[torch.Tensor]:
    """The arrays as tensors on `device`. On a CPU they share the arrays' memory."""
    import torch

    if device.type == "cpu":
        return [torch.from_numpy(array) for array in arrays]
    staging = Staging(arrays)
    return staging.cut(staging.pack(arrays, pinned=True).to(device, non_blocking=True))
