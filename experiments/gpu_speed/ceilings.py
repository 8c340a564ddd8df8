"""What the device can do at all, measured as everything else is: copies, and products of large matrices."""

from __future__ import annotations

import torch
from box import Box
from timing import time_calls


def measure(box: Box) -> None:
    """Bytes a second read and written by a copy; bf16 operations a second of a large product."""
    device, dry = box.device, box.dry
    elements = 2**20 if dry else 2**30
    source = torch.randn(elements, device=device).to(torch.bfloat16)
    target = torch.empty_like(source)
    copy = time_calls([lambda: target.copy_(source)], device=device, budget=0.1 if dry else 1.0)
    box.row(what="copy", bytes=2 * source.nbytes, seconds=copy.seconds, rounds=copy.rounds)
    size = 256 if dry else 8192
    a, b = (torch.randn(size, size, device=device).to(torch.bfloat16) for _ in range(2))
    product = time_calls([lambda: torch.mm(a, b)], device=device, budget=0.1 if dry else 1.0)
    box.row(what="product", operations=2 * size**3, seconds=product.seconds, rounds=product.rounds)
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        box.row(
            what="device",
            name=properties.name,
            memory=properties.total_memory,
            processors=properties.multi_processor_count,
        )
