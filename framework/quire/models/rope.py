"""Rotary position embedding and the ways to stretch it to longer contexts.

Su et al., "RoFormer", 2021: the pair i of R/2 turns by the angle position * theta^(-2i/R). Every variant
changes these frequencies, and some multiply the rotated vector by an amplitude.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Rope:
    """The plain rotation of the first `dims` dimensions (R) of each head.

    `max_tokens` is the longest sequence it is meant for, `default_tokens` the longest where the user names no
    limit.
    """

    theta: float
    dims: int
    max_tokens: int

    @property
    def default_tokens(self) -> int:
        return self.max_tokens

    def frequencies(self, tokens: int) -> torch.Tensor:
        """Radians per token of each pair, float32 [R/2], for sequences of at most that many tokens."""
        del tokens
        return 1.0 / self._wavelengths()

    def amplitude(self) -> float:
        return 1.0

    def _wavelengths(self) -> torch.Tensor:
        """theta^(2i/R): tokens per radian of each pair."""
        import torch

        return self.theta ** (torch.arange(0, self.dims, 2, dtype=torch.float32) / self.dims)


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearRope(Rope):
    """Position interpolation (Chen et al., 2023): every position is divided by `factor`."""

    factor: float

    def frequencies(self, tokens: int) -> torch.Tensor:
        return Rope.frequencies(self, tokens) / self.factor


@dataclass(frozen=True, kw_only=True, slots=True)
class Llama3Rope(Rope):
    """Llama 3.1 (Grattafiori et al., 2024): slow pairs are interpolated, fast ones kept, those between mixed.

    A pair is slow if it turns less than `low_freq_factor` times in the original context, fast above
    `high_freq_factor` times.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_tokens: int

    def frequencies(self, tokens: int) -> torch.Tensor:
        plain = Rope.frequencies(self, tokens)
        turns = self.original_tokens * plain / (2 * math.pi)
        kept = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        kept = kept.clamp(0, 1)
        return (1 - kept) * plain / self.factor + kept * plain


@dataclass(frozen=True, kw_only=True, slots=True)
class YarnRope(Rope):
    """YaRN (Peng et al., 2023), section 3.2: interpolate by parts, and lift the amplitude.

    Pairs below the dimension that turns `beta_fast` times in the original context are kept, those beyond the
    one that turns `beta_slow` times are divided by `factor`, with a linear ramp between.
    """

    factor: float
    original_tokens: int
    beta_fast: float
    beta_slow: float
    truncate: bool
    """Round the ramp's ends outwards to whole dimensions."""
    attention_factor: float

    def frequencies(self, tokens: int) -> torch.Tensor:
        import torch

        wavelengths = self._wavelengths()
        low, high = self._turning(self.beta_fast), self._turning(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, self.dims - 1)
        if low == high:
            high += 0.001  # a ramp without width would divide by zero
        ramp = (torch.arange(self.dims // 2, dtype=torch.float32) - low) / (high - low)
        stretched = ramp.clamp(0, 1)
        return stretched / (self.factor * wavelengths) + (1 - stretched) / wavelengths

    def amplitude(self) -> float:
        return self.attention_factor

    def _turning(self, turns: float) -> float:
        """The dimension, as a real number, that turns that often in the original context."""
        return self.dims * math.log(self.original_tokens / (turns * 2 * math.pi)) / (2 * math.log(self.theta))


@dataclass(frozen=True, kw_only=True, slots=True)
class LongRope(Rope):
    """LongRoPE (Ding et al., 2024): a factor found for each pair, one set for short sequences, one for long.

    A cached key keeps its rotation, so the set must not depend on how long a sequence becomes: it follows the
    limit of the whole run. Unless the user asks for longer sequences, that limit is the original context.
    """

    original_tokens: int
    short_factors: tuple[float, ...]
    long_factors: tuple[float, ...]
    attention_factor: float

    @property
    def default_tokens(self) -> int:
        return min(self.original_tokens, self.max_tokens)

    def frequencies(self, tokens: int) -> torch.Tensor:
        import torch

        factors = self.long_factors if tokens > self.original_tokens else self.short_factors
        return 1.0 / (torch.tensor(factors, dtype=torch.float32) * self._wavelengths())

    def amplitude(self) -> float:
        return self.attention_factor


def cos_sin_table(rope: Rope, *, tokens: int, device: str) -> torch.Tensor:
    """Cosines, then sines, of the positions below `tokens`: float32 [tokens, R], as `Ops.rotary` reads it."""
    import torch

    positions_P1 = torch.arange(tokens, dtype=torch.float32)[:, None]
    angles_PR = positions_P1 * rope.frequencies(tokens)
    return (torch.cat((angles_PR.cos(), angles_PR.sin()), dim=-1) * rope.amplitude()).to(device)
