"""Which element type a model runs in."""

from __future__ import annotations

import logging

import torch

from quire.errors import UserError

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_dtype(requested: str, *, declared: str | None, device: str) -> torch.dtype:
    """The type that `dtype=` asks for; "auto" takes the one that the checkpoint declares (or float32).

    float16 has no fast arithmetic on a CPU: auto takes bfloat16 there and says so, an explicit float16 is
    refused.
    """
    on_cpu = device.startswith("cpu")
    if requested == "auto":
        name = (declared or "float32").removeprefix("torch.")
        if name not in DTYPES:
            raise UserError(f"config.json: dtype={declared!r}: must be {', '.join(DTYPES)}; or choose dtype=")
        if name == "float16" and on_cpu:
            logger.info("dtype=auto: the checkpoint's float16 is slow on a CPU, bfloat16 is used")
            name = "bfloat16"
        return DTYPES[name]
    if requested not in DTYPES:
        raise UserError(f"dtype={requested}: must be auto, {', '.join(DTYPES)}")
    if requested == "float16" and on_cpu:
        raise UserError("dtype=float16: slow on device=cpu; must be auto, float32 or bfloat16")
    return DTYPES[requested]


def dtype_name(dtype: torch.dtype) -> str:
    """ "float32" for torch.float32: the form that options and capabilities use."""
    return str(dtype).removeprefix("torch.")
