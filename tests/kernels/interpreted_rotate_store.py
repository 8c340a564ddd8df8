"""The fused norm, rotation and store under the interpreter, which rounds bfloat16 wrongly."""

import pytest
import torch

from quire_kernels import reference
from quire_kernels import triton as kernels

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
TOLERANCE = {
    torch.float32: {"rtol": 1e-6, "atol": 1e-6},
    # Rounded twice: a last bit that differs after the norm, rotation may carry to either half of a pair.
    torch.float16: {"rtol": 2e-3, "atol": 2e-3},
}
SLOTS = [37, -1, 0, 79, 16]
POSITIONS = [0, 3, 49, 3, 48]


def normal(*shape: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def angles(rotated: int) -> torch.Tensor:
    turns_PI = torch.outer(torch.arange(50.0), 0.7 ** torch.arange(rotated // 2))
    return torch.cat([turns_PI.cos(), turns_PI.sin()], dim=-1)


def run(ops, dtype, *, heads, kv_heads, head_dim, rotated, normed, **options):
    """(qkv after the call, K cache, V cache); blocks of 16 tokens."""
    qkv = normal(len(SLOTS), heads + 2 * kv_heads, head_dim, dtype=dtype)
    caches = [torch.full((5, kv_heads, 16, head_dim), 7.0, dtype=dtype) for _ in range(2)]
    norms = {}
    if normed:
        norms = {
            "q_norm_D": normal(head_dim, dtype=dtype, seed=1),
            "k_norm_D": normal(head_dim, dtype=dtype, seed=2),
        }
    ops.rotate_store_kv(
        *qkv.split([heads, kv_heads, kv_heads], dim=1),
        *caches,
        torch.tensor(SLOTS),
        torch.tensor(POSITIONS),
        angles(rotated),
        eps=1e-5,
        **norms,
        **options,
    )
    return qkv, *caches


@DTYPES
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "rotated"), [(9, 3, 64, 64), (4, 1, 80, 32), (40, 2, 96, 96)]
)
def test_like_one_after_another(dtype, normed, interleaved, heads, kv_heads, head_dim, rotated):
    shape = {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "rotated": rotated}
    given = {**shape, "normed": normed, "interleaved": interleaved}
    results = [run(ops, dtype, **given) for ops in (kernels, reference)]
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, **TOLERANCE[dtype])
    untouched = normal(len(SLOTS), heads + 2 * kv_heads, head_dim, dtype=dtype)[:, heads:]
    assert torch.equal(results[0][0][:, heads:], untouched)
    k_cache = results[0][1].transpose(1, 2).flatten(0, 1)
    unused = [slot for slot in range(80) if slot not in SLOTS]
    assert (k_cache[unused] == 7.0).all()
    assert (k_cache[SLOTS[0]] != 7.0).all()


@pytest.mark.parametrize("code", [torch.int8, torch.float8_e4m3fn], ids=["int8", "fp8_e4m3"])
@DTYPES
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "rotated"),
    [(9, 3, 64, 64), (4, 1, 80, 32), (40, 2, 96, 96), (2, 9, 128, 128), (2, 1, 256, 128)],
)
def test_in_eight_bits_like_one_after_another(dtype, code, normed, heads, kv_heads, head_dim, rotated):
    """The very codes and scales that a store would make of what a norm and a rotation of their own leave."""
    tokens = len(SLOTS)
    qkv = normal(tokens, heads + 2 * kv_heads, head_dim, dtype=dtype)
    qkv[1:3, heads:] *= 1e-3
    if not normed:
        qkv[3, heads] = 0
        qkv[4, -1, -1] = float("inf")
        qkv[2, heads + kv_heads - 1, head_dim - 1] = float("nan")
    weights = [normal(head_dim, dtype=dtype, seed=seed) if normed else None for seed in (1, 2)]
    positions_T, slots_T = torch.tensor(POSITIONS), torch.tensor(SLOTS)
    stored = []
    for fused in (True, False):
        q_THD, k_TKD, v_TKD = qkv.clone().split([heads, kv_heads, kv_heads], dim=1)
        caches = [torch.full((5, kv_heads, 16, head_dim), 7, dtype=torch.uint8).view(code) for _ in range(2)]
        scales = {name: torch.full((5, kv_heads, 16), 3.0) for name in ("k_scales_NKB", "v_scales_NKB")}
        if fused:
            kernels.rotate_store_kv(
                q_THD, k_TKD, v_TKD, *caches, slots_T, positions_T, angles(rotated), eps=1e-5,
                q_norm_D=weights[0], k_norm_D=weights[1], **scales,
            )  # fmt: skip
        else:
            k_TKD = k_TKD.contiguous()
            for x, weight_D in ((q_THD, weights[0]), (k_TKD, weights[1])):
                if weight_D is not None:
                    kernels.rms_norm(x, weight_D, x, eps=1e-5)
            kernels.rotary(q_THD, k_TKD, positions_T, angles(rotated))
            kernels.store_kv(k_TKD, v_TKD, *caches, slots_T, **scales)
        stored.append((q_THD, *(cache.view(torch.uint8) for cache in caches), *scales.values()))
    names = ("q", "k", "v", "scales of k", "scales of v")
    for name, fused, apart in zip(names, *stored, strict=True):
        if name == "q":
            torch.testing.assert_close(fused, apart, **TOLERANCE[dtype])
        elif name == "k" and normed:  # the sums of the norm's squares are of other orders
            assert (fused.int() - apart.int()).abs().max() <= 1
        elif name == "scales of k" and normed:
            torch.testing.assert_close(fused, apart, **TOLERANCE[dtype])
        else:
            assert torch.equal(fused.nan_to_num(-1), apart.nan_to_num(-1)), name


def test_unit_offset():
    given = {"heads": 2, "kv_heads": 1, "head_dim": 32, "rotated": 32, "normed": True, "unit_offset": True}
    results = [run(ops, torch.float32, **given) for ops in (kernels, reference)]
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


def test_no_tokens():
    q_THD, k_TKD = torch.empty(0, 2, 32), torch.empty(0, 1, 32)
    cache = torch.empty(1, 1, 16, 32)
    none = torch.empty(0, dtype=torch.int64)
    kernels.rotate_store_kv(q_THD, k_TKD, k_TKD, cache, cache.clone(), none, none, angles(32))
