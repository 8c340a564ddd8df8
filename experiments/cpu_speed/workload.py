"""The requests and the model that every arm of the comparison gets, as files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Shape:
    """A Llama-shaped checkpoint with random weights."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int


SHAPES = {
    "135m": Shape(hidden=576, intermediate=1536, layers=30, heads=9, kv_heads=3, vocab=49152),
    "tiny": Shape(hidden=64, intermediate=128, layers=2, heads=4, kv_heads=2, vocab=512),
}


def make_checkpoint(directory: Path, shape: Shape, seed: int = 0, max_tokens: int = 2048) -> None:
    """Write a random bf16 checkpoint in Hugging Face format, embeddings tied, for sequences so long."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        vocab_size=shape.vocab,
        max_position_embeddings=max_tokens,
        tie_word_embeddings=True,
        eos_token_id=None,
        bos_token_id=None,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)


def make_requests(path: Path, *, count: int, vocab: int, seed: int = 0) -> tuple[int, int]:
    """Write `count` requests as JSON, in two lists: `serve`, prompt token ids and the output length to be
    forced; and `prefill`, other prompts of the same lengths, for one token each.

    Lengths are lognormal: mean 220, sigma 1.0, cap 1024 in; mean 180, sigma 0.8, cap 512 out. Returns the
    total tokens in and out of `serve`.
    """
    rng = np.random.Generator(np.random.PCG64(seed))

    def lengths(mean: float, sigma: float, cap: int) -> np.ndarray:
        drawn = rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, count)
        return np.clip(np.rint(drawn), 1, cap).astype(int)

    def requests(outputs: np.ndarray) -> list[dict]:
        return [
            {"prompt": rng.integers(0, vocab, n).tolist(), "output_tokens": int(m)}
            for n, m in zip(inputs, outputs, strict=True)
        ]

    inputs, outputs = lengths(220, 1.0, 1024), lengths(180, 0.8, 512)
    lists = {"serve": requests(outputs), "prefill": requests(np.ones(count, dtype=int))}
    path.write_text(json.dumps(lists))
    return int(inputs.sum()), int(outputs.sum())
