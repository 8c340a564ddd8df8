"""Checkpoints with random weights: one in the shape of an 8B Llama, and small ones to compare tokens on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from box import Box

MAX_TOKENS = 16384


@dataclass(frozen=True)
class Shape:
    """A Llama."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def layer_parameters(self) -> int:
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        return attention + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def read_parameters(self) -> int:
        """Those that every decoding step reads: all but the embedding, of which it reads a row a token."""
        return self.layers * self.layer_parameters + self.vocab * self.hidden + self.hidden

    @property
    def product_parameters(self) -> int:
        """Those that every token is multiplied with, but for the head, which only sampled ones meet."""
        return self.layers * self.layer_parameters


LLAMA_8B = Shape(hidden=4096, intermediate=14336, layers=32, heads=32, kv_heads=8, vocab=128256)
TINY = Shape(hidden=64, intermediate=128, layers=2, heads=4, kv_heads=2, vocab=512)


def shape_of(*, dry: bool) -> Shape:
    return TINY if dry else LLAMA_8B


def write(box: Box) -> None:
    """Write the checkpoint to `box.model` in files of a few layers each, weights drawn on the device."""
    shape, directory = shape_of(dry=box.dry), box.model
    directory.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator(device=box.device).manual_seed(0)
    places: dict[str, str] = {}

    def draw(*size: int) -> torch.Tensor:
        # Spread so that activations keep their size, and logits differ by more than rounding.
        values = torch.randn(size, generator=generator, device=box.device, dtype=torch.float32)
        return values.mul_(size[-1] ** -0.5).to(torch.bfloat16).cpu()

    def save(name: str, tensors: dict[str, torch.Tensor]) -> None:
        from safetensors.torch import save_file

        save_file(tensors, directory / name, metadata={"format": "pt"})
        places.update(dict.fromkeys(tensors, name))

    for first in range(0, shape.layers, 4):
        tensors: dict[str, torch.Tensor] = {}
        for layer in range(first, min(first + 4, shape.layers)):
            tensors |= _layer(f"model.layers.{layer}", shape, draw)
        save(f"layers-{first:03}.safetensors", tensors)
    ones = torch.ones(shape.hidden, dtype=torch.bfloat16)
    rest = {"model.embed_tokens.weight": draw(shape.vocab, shape.hidden), "model.norm.weight": ones}
    save("rest.safetensors", rest | {"lm_head.weight": draw(shape.vocab, shape.hidden)})
    index = {"metadata": {}, "weight_map": places}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    (directory / "config.json").write_text(json.dumps(_config(shape)))
    box.row(what="checkpoint", bytes=sum(file.stat().st_size for file in directory.iterdir()))


def _layer(prefix: str, shape: Shape, draw) -> dict[str, torch.Tensor]:
    hidden, dim = shape.hidden, shape.head_dim
    ones = torch.ones(hidden, dtype=torch.bfloat16)
    rows = {
        "self_attn.q_proj": (shape.heads * dim, hidden),
        "self_attn.k_proj": (shape.kv_heads * dim, hidden),
        "self_attn.v_proj": (shape.kv_heads * dim, hidden),
        "self_attn.o_proj": (hidden, shape.heads * dim),
        "mlp.gate_proj": (shape.intermediate, hidden),
        "mlp.up_proj": (shape.intermediate, hidden),
        "mlp.down_proj": (hidden, shape.intermediate),
    }
    products = {f"{prefix}.{name}.weight": draw(*size) for name, size in rows.items()}
    norms = ("input_layernorm", "post_attention_layernorm")
    return products | {f"{prefix}.{name}.weight": ones.clone() for name in norms}


def _config(shape: Shape) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab,
        "max_position_embeddings": MAX_TOKENS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
        "bos_token_id": None,
        "eos_token_id": None,
    }


def small_models(directory: Path, *, dry: bool) -> dict[str, Path]:
    """Random float32 checkpoints of several families, written with transformers, by name."""
    from transformers import (
        Gemma2Config,
        Gemma2ForCausalLM,
        LlamaConfig,
        LlamaForCausalLM,
        MixtralConfig,
        MixtralForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
        Qwen3MoeConfig,
        Qwen3MoeForCausalLM,
    )

    common = {
        "hidden_size": 64 if dry else 512,
        "intermediate_size": 96 if dry else 1024,
        "num_hidden_layers": 2 if dry else 4,
        "num_attention_heads": 4 if dry else 8,
        "num_key_value_heads": 2,
        "head_dim": 32 if dry else 64,
        "vocab_size": 512 if dry else 8192,
        "max_position_embeddings": 2048,
        "eos_token_id": None,
        "bos_token_id": None,
        "pad_token_id": 0,
    }
    families = {
        "llama": (LlamaConfig, LlamaForCausalLM, {}),
        "qwen3 (norms of heads)": (Qwen3Config, Qwen3ForCausalLM, {}),
        "gemma2 (windows, softcap)": (Gemma2Config, Gemma2ForCausalLM, {"sliding_window": 16}),
        "mixtral (experts)": (MixtralConfig, MixtralForCausalLM, {"num_local_experts": 4}),
        "qwen3 moe (many experts)": (
            Qwen3MoeConfig,
            Qwen3MoeForCausalLM,
            {
                "num_experts": 32,
                "num_experts_per_tok": 8,
                "moe_intermediate_size": 128,
                "norm_topk_prob": True,
            },
        ),
    }
    paths = {}
    for number, (name, (config, model, options)) in enumerate(families.items()):
        torch.manual_seed(number)
        paths[name] = directory / f"small-{number}"
        model(config(**common, **options)).save_pretrained(paths[name])
    return paths
