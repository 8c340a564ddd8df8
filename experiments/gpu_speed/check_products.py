"""Matrix products, the middle of a layer as one kernel, and sampling, against float64."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from check_kernels import Case, Draw, rotation, wide
from torch import Tensor


def products(draw: Draw, dry: bool) -> Iterator[Case]:
    """Few tokens, whose shares of the inputs are summed, and many; every width of groups; experts."""
    rows = (3,) if dry else (1, 16, 33, 200)
    sizes = (96, 70) if dry else (2048, 1000)
    for tokens in rows:
        for bits, group in ((4, 32), (8, 64)) if dry else ((4, 32), (4, 64), (4, 128), (8, 64), (8, 128)):
            yield (
                f"w{bits}a16, groups of {group}, {tokens} tokens",
                lambda t=tokens, b=bits, g=group: _groupwise(draw, t, b, g, *sizes),
            )
    for ends in ([0, 5, 5, 9],) if dry else ([0, 5, 5, 9], [100, 100, 300, 1000], [2000, 2001, 2002, 2003]):
        yield f"experts, ends {ends}", lambda e=ends: _experts(draw, e, *sizes)
        yield f"experts in w4a16, ends {ends}", lambda e=ends: _integer_experts(draw, e, *sizes)
        if _has_fp8(draw):
            yield f"experts in fp8, ends {ends}", lambda e=ends: _fp8_experts(draw, e, *sizes)
    if _has_fp8(draw):
        for tokens in rows:
            yield f"fp8, {tokens} tokens", lambda t=tokens: _fp8(draw, t, *sizes)


def others(draw: Draw, dry: bool) -> Iterator[Case]:
    """What rotates and stores in one, and what draws tokens."""
    for normed in (False, True):
        for dim in (32,) if dry else (64, 80, 128):
            yield f"rotate and store of {dim}, {normed=}", lambda d=dim, n=normed: _rotate_store(draw, d, n)
    if draw.dtype == torch.float32:  # logits are
        for vocab in (300,) if dry else (300, 32000, 151936):
            yield f"sampling of {vocab}", lambda v=vocab: _sample(draw, v)
            yield f"gumbel draws of {vocab}", lambda v=vocab: _gumbel(draw, v)


def _integers(draw: Draw, outputs: int, inputs: int, bits: int, group: int) -> list[Tensor]:
    shape = (outputs, -(-inputs // group))
    parts = [
        torch.randint(0, 1 << bits, (outputs, inputs), dtype=torch.uint8),
        torch.rand(shape) + 0.1,
        torch.randint(0, 1 << bits, shape, dtype=torch.uint8),
    ]
    return [part.to(draw.device) for part in parts]


def _groupwise(
    draw: Draw, tokens: int, bits: int, group: int, inputs: int, outputs: int
) -> tuple[Tensor, Tensor]:
    from quire_kernels import reference
    from quire_kernels import triton as kernels

    parts = _integers(draw, outputs, inputs, bits, group)
    x_TI, bias_O = draw.normal(tokens, inputs), draw.normal(outputs)
    linear = kernels.GroupwiseLinear(*parts, bias_O, bits=bits, group_size=group)
    on_cpu = (part.cpu() for part in parts)
    expected = reference.groupwise_linear(x_TI.cpu(), *on_cpu, bias_O.cpu(), bits=bits, group_size=group)
    return linear(x_TI), expected


def _experts(draw: Draw, ends: list[int], inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    from quire_kernels import reference
    from quire_kernels import triton as kernels

    ends_X = torch.tensor(ends, dtype=torch.int32)
    x_TI, weight_XOI = draw.normal(ends[-1], inputs), draw.normal(len(ends), outputs, inputs)
    out_TO, expected = draw.empty(ends[-1], outputs), torch.empty(ends[-1], outputs).double()
    kernels.grouped_linear(x_TI, weight_XOI, ends_X.to(draw.device), out_TO)
    reference.grouped_linear(*wide(x_TI, weight_XOI), ends_X, expected)
    return out_TO, expected


def _integer_experts(draw: Draw, ends: list[int], inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    from quire_kernels import reference
    from quire_kernels import triton as kernels

    options = {"bits": 4, "group_size": 32}
    weights = [_integers(draw, outputs, inputs, 4, 32) for _ in ends]
    x_TI = draw.normal(ends[-1], inputs)
    multiply = kernels.GroupedGroupwiseLinear([kernels.pack_groups(*each, **options) for each in weights])
    out_TO = multiply(x_TI, torch.tensor(ends, dtype=torch.int32).to(draw.device))
    parts = zip(weights, [0, *ends], ends, strict=False)
    expected = [
        reference.groupwise_linear(x_TI[a:b].cpu(), *(part.cpu() for part in weight), None, **options)
        for weight, a, b in parts
    ]
    return out_TO, torch.cat(expected)


def _has_fp8(draw: Draw) -> bool:
    from quire_kernels.triton.fp8 import has_fp8
    from quire_kernels.triton.launch import architecture_of

    return has_fp8(architecture_of(torch.device(draw.device)))


def _fp8(draw: Draw, tokens: int, inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    """The product of what the kernel rounded; and its scales, which must be those of the rounded rows."""
    from quire_kernels import reference
    from quire_kernels import triton as kernels

    x, weight = (kernels.quantise_rows_fp8(draw.normal(rows, inputs)) for rows in (tokens, outputs))
    out_TO, expected = draw.empty(tokens, outputs), torch.empty(tokens, outputs).double()
    kernels.fp8_linear(*x, *weight, None, out_TO)
    on_cpu = [part.cpu() for part in (*x, *weight)]
    reference.fp8_linear(*on_cpu, None, expected)
    return out_TO, expected


def _fp8_experts(draw: Draw, ends: list[int], inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    from quire_kernels import reference
    from quire_kernels import triton as kernels

    x = kernels.quantise_rows_fp8(draw.normal(ends[-1], inputs))
    values, scales = kernels.quantise_rows_fp8(draw.normal(len(ends) * outputs, inputs))
    weight = values.view(len(ends), outputs, inputs), scales.view(len(ends), outputs)
    ends_X = torch.tensor(ends, dtype=torch.int32)
    out_TO, expected = draw.empty(ends[-1], outputs), torch.empty(ends[-1], outputs).double()
    kernels.grouped_fp8_linear(*x, *weight, ends_X.to(draw.device), out_TO)
    reference.grouped_fp8_linear(*(part.cpu() for part in (*x, *weight)), ends_X, expected)
    return out_TO, expected


def _rotate_store(draw: Draw, dim: int, normed: bool) -> tuple[Tensor, Tensor]:
    from quire_kernels import reference
    from quire_kernels import triton as kernels

    tokens, heads, kv_heads, block = 5, 6, 2, 16
    q_THD, k_TKD, v_TKD = (draw.normal(tokens, n, dim) for n in (heads, kv_heads, kv_heads))
    norms = {"q_norm_D": draw.normal(dim), "k_norm_D": draw.normal(dim)} if normed else {}
    slots_T = torch.tensor([3, 40, 17, 0, 33])
    positions_T, cos_sin_PR = rotation(dim)
    indices = (slots_T, positions_T, cos_sin_PR)
    expected_q, k, v = wide(q_THD, k_TKD, v_TKD)
    shape, _ = kernels.kv_cache_shapes(3, kv_heads, block, dim, draw.dtype)
    caches = [torch.zeros(shape, dtype=draw.dtype, device=draw.device) for _ in range(2)]
    wide_caches = [torch.zeros(shape, dtype=torch.float64) for _ in range(2)]
    kernels.rotate_store_kv(
        q_THD, k_TKD, v_TKD, *caches, *(each.to(draw.device) for each in indices), **norms
    )
    wide_norms = {name: norm.cpu().double() for name, norm in norms.items()}
    reference.rotate_store_kv(expected_q, k, v, *wide_caches, *indices, **wide_norms)
    got = [q_THD.flatten(), *(cache.flatten() for cache in caches)]
    return torch.cat(got), torch.cat([expected_q.flatten(), *(cache.flatten() for cache in wide_caches)])


def _sample(draw: Draw, vocab: int) -> tuple[Tensor, Tensor]:
    """Token ids, which must be the very same."""
    from quire_kernels import reference
    from quire_kernels import triton as kernels

    rows = 8
    options = {
        "temperatures_R": torch.tensor([0.0, 1.0, 0.7, 1.3, 1.0, 1.0, 0.9, 2.0]),
        "top_ks_R": torch.tensor([vocab, vocab, 40, vocab, vocab, 7, 100, 1], dtype=torch.int32),
        "top_ps_R": torch.tensor([1.0, 1.0, 1.0, 0.9, 1.0, 0.5, 0.95, 1.0], dtype=torch.float64),
        "min_ps_R": torch.tensor([0.0, 0.0, 0.0, 0.0, 0.1, 0.0, 0.02, 0.0], dtype=torch.float64),
        "seeds_R": torch.arange(rows) * 12345,
        "positions_R": torch.arange(rows) + 3,
    }
    logits_RV = draw.normal(rows, vocab) * 3
    tokens_R, expected_R = torch.full((rows,), -1, device=draw.device), torch.full((rows,), -1)
    on_device = {name: option.to(draw.device) for name, option in options.items()}
    logits = logits_RV.cpu()
    kernels.sample_tokens(logits_RV, tokens_R, **on_device)
    reference.sample_tokens(logits, expected_R, **options)
    return tokens_R, expected_R


def _gumbel(draw: Draw, vocab: int) -> tuple[Tensor, Tensor]:
    """Token ids, which must be the very same as on a CPU: of one row, in parts, and of many."""
    from quire.engine.request import SamplingParams
    from quire.testing.sampling_rows import make_rows
    from quire_plugins.samplers.gumbel import GumbelSampler, GumbelSamplerConfig, draw_by_kernel

    kinds = ({}, {"temperature": 0.0}, {"temperature": 0.6, "top_k": 40}, {"temperature": 1.5, "min_p": 0.05})
    found, expected = [], []
    for count in (1, 40):
        rows = make_rows([SamplingParams(**kinds[r % 4]) for r in range(count)])
        logits_RV = draw.normal(count, vocab) * 3
        expected.append(GumbelSampler(config=GumbelSamplerConfig()).sample(logits_RV.cpu(), rows))
        found.append(draw_by_kernel(logits_RV, rows))
    return torch.cat(found), torch.cat(expected)
