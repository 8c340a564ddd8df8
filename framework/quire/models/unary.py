"""Functions between the two products of a feed-forward layer without a gate."""

from __future__ import annotations

import enum
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Unary(enum.Enum):
    """Activation functions, by what they compute."""

    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    RELU = "relu"
    SILU = "silu"
    TANH = "tanh"


def function_of(unary: Unary) -> Callable[[torch.Tensor], torch.Tensor]:
    """It on any tensor, element by element."""
    import torch
    from torch.nn import functional

    functions: dict[Unary, Callable[[torch.Tensor], torch.Tensor]] = {
        Unary.GELU: functional.gelu,
        Unary.GELU_TANH: partial(functional.gelu, approximate="tanh"),
        Unary.RELU: functional.relu,
        Unary.SILU: functional.silu,
        Unary.TANH: torch.tanh,
    }
    return functions[unary]
