"""Keys and values in 8 bits: to a byte and back.

int8 holds integers of at most 127. The OCP's e4m3 (an exponent of 4 bits with bias 7, a mantissa of 3, no
infinity) is passed as uint8 and taken apart by its bits, so that every architecture has it: also compute
capability 8.0, which converts none, and gfx942, whose own e4m3 has another bias.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

if TYPE_CHECKING:
    from torch import Tensor


def as_codes(cache: Tensor) -> Tensor:
    """What a kernel is passed: float8 as its bytes, everything else as it is."""
    import torch

    return cache.view(torch.uint8) if cache.dtype == torch.float8_e4m3fn else cache


def cache_types(dtype: str, code: str | None) -> dict[str, str | None]:
    """Triton's names of the types of a cache and its scales: plain, or `code`, "int8" or "e4m3"."""
    element = {None: dtype, "int8": "i8", "e4m3": "u8"}[code]
    return {
        **dict.fromkeys(("k_cache", "v_cache"), f"*{element}"),
        **dict.fromkeys(("k_scales", "v_scales"), "*fp32" if code else None),
    }


@triton.jit
def encode(x_HD, dtype: tl.constexpr):
    """(codes of type `dtype`, float32 scales) of the rows of x: x is about codes * scales.

    The largest of a row becomes the largest code; the others are rounded to nearest, ties to even. A row with
    an infinity or a NaN gets a scale of NaN.
    """
    scale_H = scale_of(largest(x_HD), dtype)
    return to_codes(x_HD, scale_H, dtype), scale_H


@triton.jit
def largest(x_HD):
    """The bits of each row's largest number, without signs. They order as integers do, NaN above all."""
    return tl.max(x_HD.to(tl.float32).to(tl.int32, bitcast=True) & 0x7FFFFFFF, 1)


@triton.jit
def scale_of(largest_H, dtype: tl.constexpr):
    """The scales with which the rows' largest numbers, as `largest` gives them, become the largest code."""
    most: tl.constexpr = 127.0 if dtype == tl.int8 else 448.0
    scale_H = tl.div_rn(largest_H.to(tl.float32, bitcast=True), most)
    return tl.where(largest_H < 0x7F800000, scale_H, float("nan"))


@triton.jit
def to_codes(x_HD, scale_H, dtype: tl.constexpr):
    """x / scale, rounded to codes; all zero where the scale is, or is not a number."""
    most: tl.constexpr = 127.0 if dtype == tl.int8 else 448.0
    divisor_H = tl.where(scale_H > 0.0, scale_H, 1.0)
    v_HD = tl.where((scale_H > 0.0)[:, None], tl.div_rn(x_HD.to(tl.float32), divisor_H[:, None]), 0.0)
    v_HD = tl.minimum(tl.maximum(v_HD, -most), most)
    if dtype == tl.int8:
        # Adding 1.5 * 2^23 leaves no room for a fraction, and rounds it away.
        return ((v_HD + 12582912.0) - 12582912.0).to(tl.int8)
    else:
        bits_HD = v_HD.to(tl.int32, bitcast=True)
        size_HD = bits_HD & 0x7FFFFFFF
        normal_HD = ((size_HD + 0x7FFFF + ((size_HD >> 20) & 1)) >> 20) - ((127 - 7) << 3)
        # The last bit of 16384 is 2^-9, the step of e4m3's subnormal numbers.
        subnormal_HD = (tl.abs(v_HD) + 16384.0).to(tl.int32, bitcast=True) - 0x46800000
        code_HD = tl.where(tl.abs(v_HD) < 0.015625, subnormal_HD, normal_HD)
        return (code_HD | ((bits_HD >> 24) & 0x80)).to(tl.uint8)


@triton.jit
def decode(code, dtype: tl.constexpr):
    """What codes stand for, in type `dtype`; of e4m3 the 256th part, to which a change of exponents leads."""
    if code.dtype == tl.int8:
        return code.to(dtype)
    else:
        bits = code.to(tl.int16)
        return (((bits & 0x80) << 8) | ((bits & 0x7F) << 7)).to(tl.float16, bitcast=True).to(dtype)


@triton.jit
def load_scales(scales, offset_N, present_N, code: tl.constexpr, MASKED: tl.constexpr):
    """What `decode` is to be multiplied by, for each key; zero where there is none."""
    if MASKED:
        scale_N = tl.load(scales + offset_N, mask=present_N, other=0.0)
    else:
        scale_N = tl.load(scales + offset_N)
    if code == tl.int8:
        return scale_N
    else:
        return scale_N * 256.0
