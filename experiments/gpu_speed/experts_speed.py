"""Decoding steps of a model of experts, from CUDA graphs and launched one by one.

Random weights in the shape of a Qwen3-30B-A3B with a few of its layers: each token goes to 8 of 128 experts.
"""

from __future__ import annotations

from pathlib import Path

import torch
from box import Box
from engine_speed import decode_steps
from engines import Loaded

LAYERS, EXPERTS, PER_TOKEN = 4, 128, 8


def measure(box: Box) -> None:
    """A row for each number of sequences, with graphs and without them."""
    directory = box.model.with_name("experts")
    sizes = _sizes(dry=box.dry)
    _write(directory, sizes, box.device)
    for cuda_graphs in (True, False):
        loaded = Loaded(directory, device=box.device, dtype="bfloat16", cuda_graphs=cuda_graphs)
        for sequences, context in [(1, 32), (3, 32)] if box.dry else [(1, 1024), (16, 1024), (64, 1024)]:
            name = f"decode of {sequences} x {context}, experts, {cuda_graphs=}"
            if box.has_time(name, seconds=0 if box.dry else 6):
                row = decode_steps(box, loaded, sequences=sequences, context=context)
                box.row(what=name, cuda_graphs=cuda_graphs, **row, weight_bytes=_read_bytes(sizes, sequences))
        loaded.close()


def _sizes(*, dry: bool) -> dict[str, int]:
    return {
        "hidden_size": 64 if dry else 2048,
        "intermediate_size": 96 if dry else 6144,
        "moe_intermediate_size": 48 if dry else 768,
        "num_attention_heads": 4 if dry else 32,
        "num_key_value_heads": 2 if dry else 4,
        "head_dim": 32 if dry else 128,
        "vocab_size": 512 if dry else 151936,
    }


def _write(directory: Path, sizes: dict[str, int], device: str) -> None:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    config = Qwen3MoeConfig(
        **sizes,
        num_hidden_layers=LAYERS,
        num_experts=EXPERTS,
        num_experts_per_tok=PER_TOKEN,
        norm_topk_prob=True,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen3MoeForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(directory)


def _read_bytes(sizes: dict[str, int], sequences: int) -> float:
    """Weights that a step reads, if each token's experts are any of all alike: all but the embedding."""
    hidden, head_dim = sizes["hidden_size"], sizes["head_dim"]
    used = EXPERTS * (1 - (1 - PER_TOKEN / EXPERTS) ** sequences)
    attention = 2 * hidden * head_dim * (sizes["num_attention_heads"] + sizes["num_key_value_heads"])
    layer = attention + EXPERTS * hidden + used * 3 * hidden * sizes["moe_intermediate_size"]
    return 2 * (LAYERS * layer + sizes["vocab_size"] * hidden)
