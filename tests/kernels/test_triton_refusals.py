"""The Triton host functions answer a mistake with one line that names it, before anything reaches a GPU."""

import importlib.util
from functools import partial

import pytest
import torch

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

from quire_kernels import triton as kernels
from quire_kernels.triton import launch

meta = partial(torch.empty, device="meta")
STEP = (torch.tensor([0, 1, 3]), torch.tensor([9, 9]))
EIGHT_BITS = dict.fromkeys(("k_cache", "v_cache"), meta(4, 2, 16, 32, dtype=torch.int8))


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ({"heads": 7, "kv_heads": 2}, "heads 7 is not a multiple of kv_heads 2"),
        ({"heads": 256, "kv_heads": 1}, "heads / kv_heads is 256; supported: up to 128"),
        ({"heads": 2, "kv_heads": 1, "window": 0}, "window 0 is not positive; allowed: None or at least 1"),
    ],
)
def test_plan_attention(geometry, message):
    with pytest.raises(ValueError, match=message):
        kernels.plan_attention(torch.tensor([0, 1]), torch.tensor([9]), block_size=16, **geometry)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q_THD": meta(3, 4, 320)}, "head_dim 320 is too large; supported: up to 256"),
        ({"q_THD": meta(3, 4, 32).double()}, "q_THD has dtype torch.float64; supported: float32"),
        ({"q_THD": meta(3, 4, 32).half()}, "k_cache has dtype torch.float32; supported here: torch.float16"),
        (
            {"q_THD": meta(3, 32, 4).mT},
            r"q_THD has strides \(128, 1, 4\); the last dimension must be contiguous",
        ),
        ({"k_cache": meta(4, 2, 16, 64)}, r"k_cache has shape \(4, 2, 16, 64\); expected \(4, 2, 16, 32\)"),
        ({"v_cache": meta(4, 2, 32, 32)}, r"v_cache has shape \(4, 2, 32, 32\); expected \(4, 2, 16, 32\)"),
        (
            {"v_cache": meta(4, 16, 2, 32).transpose(1, 2)},
            r"v_cache has strides \(1024, 32, 64, 1\); expected",
        ),
        ({"out_THD": meta(3, 4, 16)}, r"out_THD has shape \(3, 4, 16\); expected \(3, 4, 32\)"),
        ({"tables_SM": meta(2, 3).long()}, "tables_SM has dtype torch.int64; supported here: torch.int32"),
        ({"query_starts_S1": meta(2).int()}, r"query_starts_S1 has shape \(2,\); expected \(3,\)"),
        ({"softcap": 0.0}, "softcap 0.0 is not positive; allowed: None or more than 0"),
        ({"alibi_slopes_H": meta(2)}, r"alibi_slopes_H has shape \(2,\); expected \(4,\)"),
        (
            {"alibi_slopes_H": meta(4).half()},
            "alibi_slopes_H has dtype torch.float16; supported here: torch.fl",
        ),
        ({"sinks_H": meta(4).bfloat16()}, "sinks_H has dtype torch.bfloat16; supported here: torch.float32"),
        ({"lse_TH": meta(4, 3)}, r"lse_TH has shape \(4, 3\); expected \(3, 4\)"),
        (EIGHT_BITS, "k_scales_NKB is not what a cache of torch.int8 has; expected its scales"),
        (
            {"v_scales_NKB": meta(4, 2, 16)},
            "v_scales_NKB is not what a cache of torch.float32 has; expected none",
        ),
        (
            {**EIGHT_BITS, "k_scales_NKB": meta(4, 16, 2)},
            r"k_scales_NKB has shape \(4, 16, 2\); expected \(4, 2, 16\)",
        ),
    ],
)
def test_paged_attention(change, message):
    arguments = {
        "q_THD": meta(3, 4, 32),
        "k_cache": meta(4, 2, 16, 32),
        "v_cache": meta(4, 2, 16, 32),
        "tables_SM": meta(2, 3).int(),
        "query_starts_S1": meta(3).int(),
        "seq_lens_S": meta(2).int(),
        "out_THD": meta(3, 4, 32),
        "scale": 1.0,
    }
    with pytest.raises(ValueError, match=message):
        kernels.paged_attention(**{**arguments, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts_CTHD": meta(3, 4, 32)}, r"parts_CTHD has shape \(3, 4, 32\); supported: \[parts, T, H, D\]"),
        ({"parts_CTHD": meta(0, 3, 4, 32)}, r"parts_CTHD has shape \(0, 3, 4, 32\); supported"),
        (
            {"parts_CTHD": meta(2, 3, 4, 32).int()},
            "parts_CTHD has dtype torch.int32; supported: float32, float16",
        ),
        ({"parts_CTHD": meta(2, 3, 4, 1024)}, "head_dim 1024 is too large; supported: up to 512"),
        ({"lses_CTH": meta(2, 4, 3)}, r"lses_CTH has shape \(2, 4, 3\); expected \(2, 3, 4\)"),
        (
            {"lses_CTH": meta(2, 3, 4).half()},
            "lses_CTH has dtype torch.float16; supported here: torch.float32",
        ),
        ({"out_THD": meta(3, 4, 16)}, r"out_THD has shape \(3, 4, 16\); expected \(3, 4, 32\)"),
        ({"out_THD": meta(3, 32, 4).mT}, r"out_THD has strides .*; the last dimension must be contiguous"),
        ({"sinks_H": meta(3)}, r"sinks_H has shape \(3,\); expected \(4,\)"),
        ({"lse_TH": meta(3, 4).double()}, "lse_TH has dtype torch.float64; supported here: torch.float32"),
    ],
)
def test_merge_states(change, message):
    arguments = {
        "parts_CTHD": meta(2, 3, 4, 32),
        "lses_CTH": meta(2, 3, 4),
        "out_THD": meta(3, 4, 32),
    }
    with pytest.raises(ValueError, match=message):
        kernels.merge_states(**{**arguments, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"q_THW": meta(3, 4, 1088), "out_THV": meta(3, 4, 1024)},
            "q_THW has 1088 columns, 1024 of them of out_THV's; supported: 1 to 512 and 1 to 64 more",
        ),
        ({"out_THV": meta(3, 4, 576)}, "q_THW has 576 columns, 576 of them of out_THV's; supported"),
        ({"out_THV": meta(3, 4, 256)}, "q_THW has 576 columns, 256 of them of out_THV's; supported"),
        ({"out_THV": meta(3, 2, 512)}, r"out_THV has shape \(3, 2, 512\); expected \(3, 4, 512\)"),
        ({"q_THW": meta(3, 4, 576).double()}, "q_THW has dtype torch.float64; supported: float32"),
        ({"cache_NBW": meta(9, 16, 512)}, r"cache_NBW has shape \(9, 16, 512\); expected \(9, 16, 576\)"),
        (
            {"cache_NBW": meta(9, 16, 576, dtype=torch.int8)},
            "cache_NBW has dtype torch.int8; supported here: torch.float32",
        ),
        (
            {"cache_NBW": meta(9, 576, 16).mT},
            "cache_NBW has strides .*; the last dimension must be contiguous",
        ),
        ({"tables_SM": meta(3, 3).int()}, r"tables_SM has shape \(3, 3\); expected \(2, 3\)"),
        ({"seq_lens_S": meta(2)}, "seq_lens_S has dtype torch.float32; supported here: torch.int32"),
        ({"lse_TH": meta(4, 3)}, r"lse_TH has shape \(4, 3\); expected \(3, 4\)"),
        (
            {"plan": kernels.plan_attention(*STEP, heads=4, kv_heads=2, block_size=16)},
            "plan was made for kv_heads 2, but this call has 1",
        ),
    ],
)
def test_mla_decode(change, message):
    arguments = {
        "q_THW": meta(3, 4, 576),
        "cache_NBW": meta(9, 16, 576),
        "tables_SM": meta(2, 3).int(),
        "query_starts_S1": meta(3).int(),
        "seq_lens_S": meta(2).int(),
        "out_THV": meta(3, 4, 512),
        "scale": 1.0,
    }
    with pytest.raises(ValueError, match=message):
        kernels.mla_decode(**{**arguments, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows_TW": meta(3, 576).double()}, "rows_TW has dtype torch.float64; supported: float32"),
        ({"cache_NBW": meta(9, 16, 512)}, r"cache_NBW has shape \(9, 16, 512\); expected \(9, 16, 576\)"),
        (
            {"cache_NBW": meta(9, 16, 576).half()},
            "cache_NBW has dtype torch.float16; supported here: torch.float32",
        ),
        (
            {"cache_NBW": meta(9, 576, 16).mT},
            "cache_NBW has strides .*; the last dimension must be contiguous",
        ),
        ({"slots_T": meta(4).long()}, r"slots_T has shape \(4,\); expected \(3,\)"),
        ({"slots_T": meta(3).int()}, "slots_T has dtype torch.int32; supported here: torch.int64"),
    ],
)
def test_store_latents(change, message):
    arguments = {"rows_TW": meta(3, 576), "cache_NBW": meta(9, 16, 576), "slots_T": meta(3).long()}
    with pytest.raises(ValueError, match=message):
        kernels.store_latents(**{**arguments, **change})


BOUND = meta(9, 2, 32)
PAGES = {
    "q_SHD": meta(3, 4, 32),
    "tables_SM": meta(3, 5).int(),
    "seq_lens_S": meta(3).int(),
    "scale": 1.0,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k_TKD": meta(3, 2, 32).double()}, "k_TKD has dtype torch.float64; supported: float32, float16"),
        ({"largest_NKD": meta(8, 2, 32)}, r"largest_NKD has shape \(8, 2, 32\); expected \(9, 2, 32\)"),
        ({"least_NKD": BOUND.half()}, "least_NKD has dtype torch.float16; supported here: torch.float32"),
        (
            {"largest_NKD": meta(2, 9, 32).transpose(0, 1)},
            r"largest_NKD has strides \(32, 288, 1\); expected",
        ),
        ({"slots_T": meta(3).int()}, "slots_T has dtype torch.int32; supported here: torch.int64"),
    ],
)
def test_store_bounds(change, message):
    arguments = {
        "k_TKD": meta(3, 2, 32),
        "least_NKD": BOUND,
        "largest_NKD": BOUND,
        "slots_T": meta(3).long(),
        "block_size": 16,
    }
    with pytest.raises(ValueError, match=message):
        kernels.store_bounds(**{**arguments, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q_SHD": meta(3, 5, 32)}, "q_SHD has 5 heads over 2 of keys; supported: a multiple, up to 128"),
        ({"q_SHD": meta(3, 4, 320)}, "head_dim 320 is too large; supported: up to 256"),
        ({"tables_SM": meta(2, 5).int()}, r"tables_SM has shape \(2, 5\); expected \(3, 5\)"),
        ({"scores_SKP": meta(3, 2, 6)}, "scores_SKP has 6 pages a row; tables_SM has 5 columns"),
        ({"scores_SKP": meta(3, 4, 2).mT}, r"scores_SKP has strides \(8, 1, 2\); it must be contiguous"),
        (
            {"scores_SKP": meta(3, 2, 4).half()},
            "scores_SKP has dtype torch.float16; supported here: torch.fl",
        ),
        ({"softcap": -1.0}, "softcap -1.0 is not positive; allowed: None or more than 0"),
        ({"alibi_slopes_H": meta(2)}, r"alibi_slopes_H has shape \(2,\); expected \(4,\)"),
    ],
)
def test_page_scores(change, message):
    arguments = {
        **PAGES,
        "least_NKD": BOUND,
        "largest_NKD": BOUND,
        "scores_SKP": meta(3, 2, 4),
        "block_size": 16,
    }
    with pytest.raises(ValueError, match=message):
        kernels.page_scores(**{**arguments, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"k_cache": meta(9, 2, 16, 32).half()},
            "v_cache has dtype torch.float32; supported here: torch.flo",
        ),
        ({"v_cache": meta(9, 2, 32, 32)}, r"v_cache has shape \(9, 2, 32, 32\); expected \(9, 2, 16, 32\)"),
        ({"out_SHD": meta(4, 4, 32)}, r"out_SHD has shape \(4, 4, 32\); expected \(3, 4, 32\)"),
        ({"pages_SKJ": meta(3, 2, 4).int()}, "pages_SKJ has dtype torch.int32; supported here: torch.int64"),
        ({"pages_SKJ": meta(3, 4, 4).long()}, r"pages_SKJ has shape \(3, 4, 4\); expected \(3, 2, 4\)"),
        ({"sinks_H": meta(4).half()}, "sinks_H has dtype torch.float16; supported here: torch.float32"),
    ],
)
def test_attend_pages(change, message):
    cache = meta(9, 2, 16, 32)
    arguments = {
        **PAGES,
        "k_cache": cache,
        "v_cache": cache,
        "pages_SKJ": meta(3, 2, 4).long(),
        "out_SHD": meta(3, 4, 32),
    }
    with pytest.raises(ValueError, match=message):
        kernels.attend_pages(**{**arguments, **change})


@pytest.mark.parametrize(
    ("sizes", "dtype", "message"),
    [
        ((1024, 64), torch.float16, "latent_dim is 1024; the Triton kernels take 1 to 512"),
        ((512, 128), torch.float16, "rotary_dim is 128; the Triton kernels take 1 to 64"),
        ((512, 0), torch.float16, "rotary_dim is 0; the Triton kernels take 1 to 64"),
        ((512, 64), torch.float64, "dtype is torch.float64; the Triton kernels take float32"),
    ],
)
def test_latent_cache_shape(sizes, dtype, message):
    with pytest.raises(ValueError, match=message):
        kernels.latent_cache_shape(4, 16, *sizes, dtype)


def test_rms_norm():
    norm = partial(kernels.rms_norm, eps=1e-6)
    x = meta(2, 8)
    with pytest.raises(ValueError, match=r"weight_E has shape \(9,\); expected \(8,\)"):
        norm(x, meta(9), x)
    with pytest.raises(ValueError, match=r"weight_E has dtype torch.float16; supported here: torch.float32"):
        norm(x, meta(8).half(), x)
    with pytest.raises(ValueError, match=r"x_TE has dtype torch.int32; supported: float32, float16"):
        norm(x.int(), meta(8), x)
    with pytest.raises(ValueError, match=r"x_TE has shape \(8,\); supported: two or three dimensions"):
        norm(x[0], meta(8), x[0])
    with pytest.raises(ValueError, match=r"x_TE has rows of 20000 elements; supported: up to 16384"):
        norm(meta(1, 20_000), meta(20_000), meta(1, 20_000))


def test_act_mul():
    with pytest.raises(ValueError, match="activation 'relu' is unknown; allowed: 'silu', 'gelu_tanh'"):
        kernels.act_mul(meta(2, 8), meta(2, 4), activation="relu")
    with pytest.raises(ValueError, match=r"gate_up_T2I has shape \(2, 8\); expected \(2, 16\)"):
        kernels.act_mul(meta(2, 8), meta(2, 8), activation="silu")


def test_rotary():
    heads, positions = meta(2, 3, 8), meta(2).long()
    with pytest.raises(ValueError, match=r"cos_sin_PR rotates 3 dimensions; allowed: an even number up to"):
        kernels.rotary(heads, heads, positions, meta(9, 3))
    with pytest.raises(ValueError, match=r"cos_sin_PR rotates 16 dimensions; allowed: .* up to head_dim 8"):
        kernels.rotary(heads, heads, positions, meta(9, 16))
    with pytest.raises(ValueError, match=r"positions_T has dtype torch.int32; supported here: torch.int64"):
        kernels.rotary(heads, heads, positions.int(), meta(9, 8))


def test_kv_cache_shapes():
    with pytest.raises(ValueError, match="head_dim is 320; the Triton kernels take up to 256"):
        kernels.kv_cache_shapes(4, 2, 16, 320, torch.float32)
    with pytest.raises(ValueError, match=r"dtype is torch.float64; the Triton kernels take float32, float16"):
        kernels.kv_cache_shapes(4, 2, 16, 128, torch.float64)


def test_store_kv():
    heads, cache, slots = meta(2, 3, 8), meta(4, 3, 16, 8), meta(2).long()
    with pytest.raises(ValueError, match=r"slots_T has dtype torch.int32; supported here: torch.int64"):
        kernels.store_kv(heads, heads, cache, cache, slots.int())
    with pytest.raises(ValueError, match=r"v_TKD has dtype torch.float16; supported here: torch.float32"):
        kernels.store_kv(heads, heads.half(), cache, cache, slots)


def test_rotate_store_kv():
    heads, cache, tokens = meta(2, 3, 8), meta(4, 3, 16, 8), meta(2).long()
    arguments = {
        **dict.fromkeys(("q_THD", "k_TKD", "v_TKD"), heads),
        **dict.fromkeys(("k_cache", "v_cache"), cache),
        **dict.fromkeys(("slots_T", "positions_T"), tokens),
        "cos_sin_PR": meta(9, 8),
    }
    for change, message in (
        ({"cos_sin_PR": meta(9, 10)}, "cos_sin_PR rotates 10 dimensions; allowed: .* up to head_dim 8"),
        ({"q_norm_D": meta(8)}, "only one of q_norm_D and k_norm_D is given; allowed: both or none"),
        ({"q_THD": heads.double()}, "q_THD has dtype torch.float64; supported: float32"),
        ({"v_TKD": heads.half()}, "v_TKD has dtype torch.float16; supported here: torch.float32"),
        ({"k_cache": meta(4, 2, 16, 8)}, r"k_cache has shape \(4, 2, 16, 8\); expected \(4, 3, 16, 8\)"),
        (
            dict.fromkeys(("k_cache", "v_cache"), cache.short()),
            "k_cache has dtype torch.int16; supported here: .*float32 or torch.int8 or torch.float8_e4m3fn",
        ),
        (
            dict.fromkeys(("k_cache", "v_cache"), cache.char()),
            "k_scales_NKB is not what a cache of torch.int8 has; expected its scales",
        ),
        ({"slots_T": tokens[:1]}, r"slots_T has shape \(1,\); expected \(2,\)"),
        ({"positions_T": tokens.int()}, "positions_T has dtype torch.int32; supported here: torch.int64"),
    ):
        with pytest.raises(ValueError, match=message):
            kernels.rotate_store_kv(**{**arguments, **change})


def test_sample_tokens():
    rows = partial(meta, 2)
    arguments = {
        "logits_RV": meta(2, 50),
        "tokens_R": rows().long(),
        "temperatures_R": rows(),
        "top_ks_R": rows().int(),
        "top_ps_R": rows().double(),
        "min_ps_R": rows().double(),
        "seeds_R": rows().long(),
        "positions_R": rows().long(),
    }
    for change, message in (
        (
            {"logits_RV": meta(2, 50).half()},
            "logits_RV has dtype torch.float16; supported here: torch.float32",
        ),
        ({"logits_RV": meta(2, 1 << 23)}, "logits_RV has rows of 8388608 tokens; supported: 1 to 4194304"),
        ({"top_ks_R": meta(3).int()}, r"top_ks_R has shape \(3,\); expected \(2,\)"),
        ({"top_ps_R": rows()}, "top_ps_R has dtype torch.float32; supported here: torch.float64"),
    ):
        with pytest.raises(ValueError, match=message):
            kernels.sample_tokens(**{**arguments, **change})


def test_gumbel_argmax():
    rows = partial(meta, 2)
    arguments = {
        "logits_RV": meta(2, 50),
        "tokens_R": rows().long(),
        "temperatures_R": rows(),
        "seeds_R": rows().long(),
        "positions_R": rows().long(),
    }
    for change, message in (
        ({"logits_RV": meta(2, 0)}, "logits_RV has rows of 0 tokens; supported: 1 to 4194304"),
        ({"logits_RV": meta(50, 2).mT}, r"logits_RV has strides \(1, 2\); the last dimension must be"),
        ({"tokens_R": rows().int()}, "tokens_R has dtype torch.int32; supported here: torch.int64"),
        ({"seeds_R": meta(2, 1).long()}, r"seeds_R has shape \(2, 1\); expected \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            kernels.gumbel_argmax(**{**arguments, **change})


def test_filter_tokens():
    rows = partial(meta, 2)
    arguments = {
        "logits_RV": meta(2, 50),
        "temperatures_R": rows(),
        "top_ks_R": rows().int(),
        "top_ps_R": rows().double(),
        "min_ps_R": rows().double(),
    }
    for change, message in (
        (
            {"logits_RV": meta(2, 50).double()},
            "logits_RV has dtype torch.float64; supported here: torch.float32",
        ),
        ({"top_ks_R": rows().long()}, "top_ks_R has dtype torch.int64; supported here: torch.int32"),
        ({"min_ps_R": meta(1).double()}, r"min_ps_R has shape \(1,\); expected \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            kernels.filter_tokens(**{**arguments, **change})


def test_sort_pairs():
    arguments = {
        "chosen_Tk": meta(3, 2).long(),
        "tokens_P": meta(6).int(),
        "places_Tk": meta(3, 2).int(),
        "ends_X": meta(5).int(),
    }
    for change, message in (
        ({"chosen_Tk": meta(3, 2).int()}, "chosen_Tk has dtype torch.int32; supported here: torch.int64"),
        ({"chosen_Tk": meta(2, 3).long().mT}, r"chosen_Tk has strides \(1, 3\); it must be contiguous"),
        ({"tokens_P": meta(5).int()}, r"tokens_P has shape \(5,\); expected \(6,\)"),
        ({"ends_X": meta(5).long()}, "ends_X has dtype torch.int64; supported here: torch.int32"),
    ):
        with pytest.raises(ValueError, match=message):
            kernels.sort_pairs(**{**arguments, **change})


def test_sum_pairs():
    arguments = {
        "y_PE": meta(6, 8),
        "places_Tk": meta(3, 2).int(),
        "shares_Tk": meta(3, 2),
        "out_TE": meta(3, 8),
    }
    for change, message in (
        ({"y_PE": meta(5, 8)}, r"y_PE has shape \(5, 8\); expected \(6, 8\)"),
        ({"places_Tk": meta(3, 2)}, "places_Tk has dtype torch.float32; supported here: torch.int32 or"),
        (
            {"shares_Tk": meta(3, 2).half()},
            "shares_Tk has dtype torch.float16; supported here: torch.float32",
        ),
        ({"out_TE": meta(3, 8).half()}, "out_TE has dtype torch.float16; supported here: torch.float32"),
    ):
        with pytest.raises(ValueError, match=message):
            kernels.sum_pairs(**{**arguments, **change})


def test_grouped_fp8_linear(monkeypatch):
    monkeypatch.setattr(launch, "architecture_of", lambda device: launch.ARCHITECTURES["sm_90"])
    e4m3 = torch.float8_e4m3fn
    arguments = {
        "values_TI": meta(3, 32, dtype=e4m3),
        "scales_T": meta(3),
        "weight_XOI": meta(4, 16, 32, dtype=e4m3),
        "weight_scales_XO": meta(4, 16),
        "ends_X": meta(4, dtype=torch.int32),
        "out_TO": meta(3, 16),
    }
    for change, message in (
        ({"ends_X": meta(4).long()}, "ends_X has dtype torch.int64; supported here: torch.int32"),
        ({"ends_X": meta(5).int()}, r"ends_X has shape \(5,\); expected \(4,\)"),
        ({"weight_XOI": meta(4, 16, 30, dtype=e4m3)}, r"weight has shape \(4, 16, 30\); expected"),
        ({"weight_XOI": meta(4, 16, 32)}, "weight has dtype torch.float32; supported here: .*e4m3fn"),
        ({"weight_scales_XO": meta(4)}, r"weight_scales has shape \(4,\); expected \(4, 16\)"),
        ({"out_TO": meta(3, 16).double()}, "out_TO has dtype torch.float64; supported: float32"),
    ):
        with pytest.raises(ValueError, match=message):
            kernels.grouped_fp8_linear(**{**arguments, **change})


def test_devices_without_kernels():
    with pytest.raises(ValueError, match=r"device 'cpu' cannot run Triton kernels; supported: cuda"):
        launch.architecture_of(torch.device("cpu"))
    with pytest.raises(ValueError, match=r"device 'meta' cannot run these kernels; supported: cuda"):
        launch.architecture_of(torch.device("meta"))
