"""What a step computed, on its way from the device to the host."""

from __future__ import annotations

import torch


class Readback:
    """Copies that are queued behind the kernels whose results they take.

    Asking for a tensor's values later would wait for all that was queued in the meantime, the next step
    included.
    """

    def __init__(self, device: torch.device) -> None:
        self._event = torch.cuda.Event() if device.type == "cuda" else None

    def take(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor on the host: its values are there after `wait`."""
        if self._event is None:
            return tensor
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return host.copy_(tensor, non_blocking=True)

    def seal(self) -> None:
        """Nothing more is taken."""
        if self._event is not None:
            self._event.record()

    def wait(self) -> None:
        """Until all that was taken has arrived."""
        if self._event is not None:
            self._event.synchronize()
