"""Tiny checkpoints with random weights, one for each family and variant, saved by transformers.

Every parameter is random, norms and biases too, and large enough for the most likely token to stand out: a
flag read wrongly then changes the logits visibly.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM as AutoModel
from transformers import (
    BloomConfig,
    Cohere2Config,
    CohereConfig,
    DeepseekV2Config,
    DeepseekV3Config,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    GraniteConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    MptConfig,
    Olmo2Config,
    OPTConfig,
    Phi3Config,
    PhimoeConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
    StableLmConfig,
)

VOCABULARY = 128
MAX_TOKENS = 512
WINDOW = 16

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": MAX_TOKENS,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 128,
}
_YARN_MSCALE = _YARN | {"mscale": 0.7, "mscale_all_dim": 1.1, "beta_fast": 16, "truncate": False}
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "short_factor": [1.0 + 0.1 * i for i in range(6)],
    "long_factor": [2.0 + 0.5 * i for i in range(6)],
}

_LATENTS: dict[str, Any] = {
    **_SIZES,
    "num_key_value_heads": _SIZES["num_attention_heads"],
    "kv_lora_rank": 32,
    "q_lora_rank": 40,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 24,
    "v_head_dim": 20,
    "moe_intermediate_size": 48,
}

NATIVE: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**_SIZES),
    "llama_tied_biased": lambda: LlamaConfig(
        **_SIZES, tie_word_embeddings=True, attention_bias=True, mlp_bias=True, head_dim=32
    ),
    "llama_linear": lambda: LlamaConfig(**_SIZES, rope_parameters=_rope("linear", factor=4.0)),
    "llama_dynamic": lambda: LlamaConfig(**_SIZES, rope_parameters=_rope("dynamic", factor=2.0)),
    "llama_llama3": lambda: LlamaConfig(**_SIZES, rope_parameters=dict(_LLAMA3)),
    "llama_yarn": lambda: LlamaConfig(**_SIZES, rope_parameters=dict(_YARN)),
    "qwen3_yarn_mscale": lambda: Qwen3Config(**_SIZES, head_dim=32, rope_parameters=dict(_YARN_MSCALE)),
    "mistral": lambda: MistralConfig(**_SIZES, sliding_window=WINDOW),
    "mistral_no_window": lambda: MistralConfig(**_SIZES, sliding_window=None, head_dim=32),
    "qwen2": lambda: Qwen2Config(**_SIZES, tie_word_embeddings=True),
    "qwen2_windows": lambda: Qwen2Config(
        **_SIZES, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1
    ),
    "qwen3": lambda: Qwen3Config(**_SIZES, head_dim=32, attention_bias=True),
    "qwen3_moe": lambda: Qwen3MoeConfig(
        **_SIZES, **_EXPERTS, num_experts=6, moe_intermediate_size=48, norm_topk_prob=True, head_dim=32
    ),
    "qwen3_moe_mixed": lambda: Qwen3MoeConfig(
        **_SIZES,
        **_EXPERTS,
        num_experts=6,
        moe_intermediate_size=48,
        mlp_only_layers=[2],
        decoder_sparse_step=2,
    ),
    "gemma2": lambda: Gemma2Config(
        **_SIZES, sliding_window=WINDOW, head_dim=32, query_pre_attn_scalar=24, attn_logit_softcapping=5.0
    ),
    "gemma3": lambda: Gemma3TextConfig(
        **_SIZES, sliding_window=WINDOW, head_dim=32, query_pre_attn_scalar=24, sliding_window_pattern=2
    ),
    "gemma3_linear": lambda: Gemma3TextConfig(
        **_SIZES,
        sliding_window=WINDOW,
        head_dim=32,
        sliding_window_pattern=3,
        final_logit_softcapping=8.0,
        rope_scaling={"rope_type": "linear", "factor": 8.0},
    ),
    "phi3": lambda: Phi3Config(**_SIZES, sliding_window=WINDOW),
    "phi3_longrope": lambda: Phi3Config(
        **_SIZES,
        original_max_position_embeddings=MAX_TOKENS // 2,
        rope_parameters=_LONGROPE | {"partial_rotary_factor": 0.75},
    ),
    "mixtral": lambda: MixtralConfig(**_SIZES, **_EXPERTS, num_local_experts=4),
    "bloom": lambda: _bloom(heads=4),
    "bloom_six_heads": lambda: _bloom(heads=6),
    "mpt": lambda: _mpt(heads=4, attention={}),
    "mpt_clipped": lambda: _mpt(heads=6, attention={"clip_qkv": 0.7, "softmax_scale": 0.2}),
    "falcon": lambda: _falcon(),
    "falcon_two_norms": lambda: _falcon(new_decoder_architecture=True, num_kv_heads=2, bias=True),
    "falcon_one_norm": lambda: _falcon(
        new_decoder_architecture=True, num_kv_heads=2, num_ln_in_parallel_attn=1
    ),
    "falcon_rw": lambda: _falcon(alibi=True, multi_query=False, parallel_attn=False, bias=True),
    "deepseek_v2": lambda: DeepseekV2Config(
        **_LATENTS | {"q_lora_rank": None},
        **_EXPERTS,
        n_routed_experts=6,
        first_k_dense_replace=1,
        rope_parameters=dict(_YARN_MSCALE),
    ),
    "deepseek_v2_groups": lambda: DeepseekV2Config(
        **_LATENTS,
        **_EXPERTS,
        n_routed_experts=6,
        n_shared_experts=1,
        topk_method="group_limited_greedy",
        n_group=3,
        topk_group=2,
        routed_scaling_factor=1.5,
        attention_bias=True,
    ),
    "deepseek_v3": lambda: DeepseekV3Config(
        **_LATENTS,
        num_experts_per_tok=3,
        n_routed_experts=8,
        first_k_dense_replace=1,
        n_group=4,
        topk_group=2,
        rope_parameters=_YARN | {"mscale": 1.0, "mscale_all_dim": 1.0},
    ),
    "deepseek_v3_ungrouped": lambda: DeepseekV3Config(
        **_LATENTS,
        **_EXPERTS,
        n_routed_experts=4,
        n_shared_experts=2,
        first_k_dense_replace=0,
        n_group=1,
        topk_group=1,
        norm_topk_prob=False,
        rope_interleave=False,
    ),
}
"""Families and variants that the native decoder runs."""

FOREIGN: dict[str, Callable[[], PreTrainedConfig]] = {
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCABULARY, n_positions=MAX_TOKENS, n_embd=64, n_layer=3, n_head=4, eos_token_id=2
    ),
    "opt": lambda: OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        ffn_dim=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        word_embed_proj_dim=64,
        pad_token_id=0,
    ),
    "gpt_neox": lambda: GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "olmo2": lambda: Olmo2Config(**_SIZES),
    "granite": lambda: GraniteConfig(**_SIZES, logits_scaling=2.0, residual_multiplier=0.5),
    "stablelm": lambda: StableLmConfig(**_SIZES, qk_layernorm=True),
    "gpt_oss": lambda: GptOssConfig(
        **_SIZES, **_EXPERTS, sliding_window=WINDOW, head_dim=16, num_local_experts=4
    ),
    "cohere": lambda: CohereConfig(**_SIZES, logit_scale=2.0),
    "cohere2": lambda: Cohere2Config(
        **_SIZES, sliding_window=WINDOW, sliding_window_pattern=2, logit_scale=2.0
    ),
}
"""Families that run through transformers."""

UNSUITED: dict[str, Callable[[], PreTrainedConfig]] = {
    "mamba": lambda: MambaConfig(
        vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=2, state_size=8, pad_token_id=0
    ),
    "phimoe": lambda: PhimoeConfig(**_SIZES, **_EXPERTS, sliding_window=WINDOW, num_local_experts=4),
}
"""Families that transformers knows but that cannot use our attention."""

_ALL = NATIVE | FOREIGN | UNSUITED
_BIASED_TWICE = {"falcon_rw"}
"""Families whose biases transformers' eager attention adds twice, and its other one once."""


def make_model(family: str, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A model of that family in transformers' own eager attention: the oracle."""
    torch.manual_seed(seed)
    config = _ALL[family]()
    implementation = "sdpa" if family in _BIASED_TWICE else "eager"
    model = AutoModel.from_config(config, attn_implementation=implementation, dtype=dtype).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            if parameter.dim() == 1:
                parameter.add_(noise * 0.2)
            else:
                parameter.copy_(noise * (1.5 * parameter.shape[-1] ** -0.5))
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):  # else zeros, as no checkpoint has them
                buffer.copy_(torch.rand(buffer.shape, generator=generator) * 0.5)
    return model


def make_checkpoint(
    family: str,
    directory: Path,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    shard_size: str | int = "5GB",
) -> PreTrainedModel:
    """Save a model of that family in `directory` and return it. `shard_size` is a file's limit."""
    model = make_model(family, seed=seed, dtype=dtype)
    model.save_pretrained(directory, max_shard_size=shard_size)
    return model


def _bloom(*, heads: int) -> BloomConfig:
    return BloomConfig(
        vocab_size=VOCABULARY,
        hidden_size=16 * heads,
        n_layer=3,
        n_head=heads,
        seq_length=MAX_TOKENS,
        pad_token_id=0,
    )


def _mpt(*, heads: int, attention: dict[str, Any]) -> MptConfig:
    return MptConfig(
        vocab_size=VOCABULARY,
        d_model=16 * heads,
        n_layers=3,
        n_heads=heads,
        max_seq_len=MAX_TOKENS,
        attn_config=attention,
        eos_token_id=2,
    )


def _falcon(**options: Any) -> FalconConfig:
    return FalconConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        ffn_hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=1,
        eos_token_id=2,
        **options,
    )


def _rope(kind: str, **parameters: float) -> dict[str, Any]:
    return {"rope_type": kind, "rope_theta": 10_000.0, **parameters}
