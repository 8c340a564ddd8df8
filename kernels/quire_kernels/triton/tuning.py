"""Which tiles a GPU likes best: every candidate of a case is timed on a problem in the shape of an 8B model.

The tile that a launch function would take by itself is among the candidates, and stays unless another is
faster by more than times differ from one reading to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from quire_kernels.triton.tuned import trying

if TYPE_CHECKING:
    import torch

Call = Callable[[], object]
Timer = Callable[[Call], float]
"""Seconds of a call, or what compares as they do."""

LEAST_GAIN = 0.02
_INPUTS, _OUTPUTS = 4096, 14336


@dataclass(frozen=True, kw_only=True)
class TuningCase:
    """What is tuned: a family's case as its launch function names it, and a call that launches it."""

    family: str
    case: str
    candidates: tuple[dict[str, int], ...]
    make: Callable[[], Call]


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What a case came to. `tile` is None if the default stays."""

    default_seconds: float
    seconds: float
    tile: dict[str, int] | None
    refused: int
    """Candidates that did not compile, or asked for more than the GPU has."""


def tune(case: TuningCase, *, timer: Timer) -> Tuned:
    """Time the default and all candidates of one case."""
    call = case.make()
    default = timer(call)
    best, best_tile, refused = default * (1 - LEAST_GAIN), None, 0
    for tile in case.candidates:
        with trying(case.family, case.case, tile):
            try:
                seconds = timer(call)
            except Exception:  # compilers and drivers have many ways to say that a tile is too large
                refused += 1
                continue
        if seconds < best:
            best, best_tile = seconds, tile
    return Tuned(
        default_seconds=default,
        seconds=default if best_tile is None else best,
        tile=best_tile,
        refused=refused,
    )


def time_on_gpu(call: Call) -> float:
    """The median over some hundred milliseconds, by events; the cache is emptied in between."""
    from triton.testing import do_bench

    return do_bench(call, warmup=20, rep=100, return_mode="median") / 1e3


def tuning_cases(device: torch.device, *, small: bool = False) -> Iterator[TuningCase]:
    """All cases that a GPU can be tuned for; `small` has problems that an interpreter can compute."""
    from quire_kernels.triton.fp8 import has_fp8
    from quire_kernels.triton.launch import architecture_of
    from quire_kernels.triton.tuning_states import merge_cases, mla_cases

    yield from _attention_cases(device, small)
    yield from merge_cases(device, small)
    yield from mla_cases(device, small)
    yield from _groupwise_cases(device, small)
    yield from _grouped_cases(device, small)
    if has_fp8(architecture_of(device)):
        yield from _fp8_cases(device, small)


def grid(**values: tuple[int, ...]) -> tuple[dict[str, int], ...]:
    """Every combination of the values, as tiles."""
    return tuple(dict(zip(values, each, strict=True)) for each in product(*values.values()))


def narrow_dtype(small: bool) -> torch.dtype:
    """What models are kept in; an interpreter multiplies only one of the two."""
    import torch

    return torch.float16 if small else torch.bfloat16


def _attention_cases(device: torch.device, small: bool) -> Iterator[TuningCase]:
    for head_dim in (64, 128, 256):
        for mode, candidates in (
            ("decode", grid(n=(32, 64, 128), warps=(2, 4, 8), stages=(3, 4, 5))),
            ("prefill", grid(m=(64, 128), n=(32, 64, 128), warps=(4, 8), stages=(2, 3, 4, 5))),
        ):
            yield TuningCase(
                family="attention",
                case=f"{mode}-x2-d{head_dim}",
                candidates=candidates,
                make=lambda d=head_dim, m=mode: _attention_call(device, d, m == "decode", small),
            )


def _attention_call(device: torch.device, head_dim: int, decode: bool, small: bool) -> Call:
    """32 sequences that decode at a context of 4,096, or one prompt of that length; groups of 4 heads."""
    import torch

    from quire_kernels.triton.attention import paged_attention, plan_attention

    heads, kv_heads, block = (4, 1, 16) if small else (32, 8, 16)
    context = 40 if small else 4096
    sequences, queries = (2 if small else 32, 1) if decode else (1, context)
    blocks = -(-context // block)
    cache = [
        torch.randn(sequences * blocks, kv_heads, block, head_dim, device=device).to(narrow_dtype(small))
        for _ in range(2)
    ]
    tables = torch.randperm(sequences * blocks, device=device).to(torch.int32).view(sequences, blocks)
    host = (
        torch.arange(sequences + 1, dtype=torch.int32) * queries,
        torch.full((sequences,), context, dtype=torch.int32),
    )
    q_THD = torch.randn(sequences * queries, heads, head_dim, device=device).to(narrow_dtype(small))
    plan = plan_attention(*host, heads=heads, kv_heads=kv_heads, block_size=block)
    step = (q_THD, *cache, tables, *(each.to(device) for each in host), torch.empty_like(q_THD))
    return lambda: paged_attention(*step, scale=head_dim**-0.5, plan=plan)


def _sizes(small: bool) -> tuple[int, int]:
    return (256, 64) if small else (_INPUTS, _OUTPUTS)


def _groupwise_cases(device: torch.device, small: bool) -> Iterator[TuningCase]:
    for bits, group, tokens in product((4, 8), (32, 64, 128), (16,) if small else (16, 32, 64, 128)):
        yield TuningCase(
            family="groupwise",
            case=f"w{bits}-x2-g{group}-t{tokens}",
            candidates=grid(o=(32, 64, 128), warps=(4, 8), stages=(2, 3, 4, 5)),
            make=lambda b=bits, g=group, t=tokens: _groupwise_call(device, b, g, t, small),
        )


def _groupwise_call(device: torch.device, bits: int, group: int, tokens: int, small: bool) -> Call:
    import torch

    from quire_kernels.triton.groupwise import GroupwiseLinear

    inputs, outputs = _sizes(small)
    shape = (outputs, inputs // group)
    linear = GroupwiseLinear(
        torch.randint(0, 1 << bits, (outputs, inputs), dtype=torch.uint8, device=device),
        torch.rand(shape, device=device),
        torch.randint(0, 1 << bits, shape, dtype=torch.uint8, device=device),
        None,
        bits=bits,
        group_size=group,
    )
    x_TI = torch.randn(tokens, inputs, device=device).to(narrow_dtype(small))
    return lambda: linear(x_TI)


def _grouped_cases(device: torch.device, small: bool) -> Iterator[TuningCase]:
    for tokens in (16,) if small else (16, 32, 64, 128):
        yield TuningCase(
            family="grouped",
            case=f"x2-t{tokens}",
            candidates=grid(o=(64, 128), i=(32, 64, 128), warps=(4, 8), stages=(2, 3, 4, 5)),
            make=lambda t=tokens: _grouped_call(device, t, small),
        )


def _grouped_call(device: torch.device, tokens: int, small: bool) -> Call:
    """Eight experts, as many rows each."""
    import torch

    from quire_kernels.triton.grouped import grouped_linear

    inputs, outputs = _sizes(small)
    experts = 2 if small else 8
    weight_XOI = torch.randn(experts, outputs, inputs, device=device).to(narrow_dtype(small))
    x_TI = torch.randn(experts * tokens, inputs, device=device).to(narrow_dtype(small))
    ends_X = (torch.arange(1, experts + 1, device=device) * tokens).to(torch.int32)
    out_TO = x_TI.new_empty((experts * tokens, outputs))
    return lambda: grouped_linear(x_TI, weight_XOI, ends_X, out_TO)


def _fp8_cases(device: torch.device, small: bool) -> Iterator[TuningCase]:
    for tokens in (16,) if small else (16, 32, 64, 128):
        yield TuningCase(
            family="fp8",
            case=f"t{tokens}",
            candidates=grid(o=(64, 128), i=(64, 128, 256), warps=(4, 8), stages=(2, 3, 4, 5)),
            make=lambda t=tokens: _fp8_call(device, t, small),
        )


def _fp8_call(device: torch.device, tokens: int, small: bool) -> Call:
    import torch

    from quire_kernels.triton.fp8 import fp8_linear
    from quire_kernels.triton.fp8_rows import quantise_rows_fp8

    inputs, outputs = _sizes(small)
    x, weight = (
        quantise_rows_fp8(torch.randn(rows, inputs, device=device).to(narrow_dtype(small)))
        for rows in (tokens, outputs)
    )
    out_TO = torch.empty(tokens, outputs, dtype=narrow_dtype(small), device=device)
    return lambda: fp8_linear(*x, *weight, None, out_TO)
