"""A Llama with random weights as a checkpoint, and what it says by the formulas: in float64, without a cache
(Touvron et al., "LLaMA", 2023, section 2.2).

Shapes: T tokens, V vocabulary, E hidden size, H query and K key-value heads, D dimensions of a head.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.testing import op_formulas

if TYPE_CHECKING:
    import torch

_LAYERS, _HEADS, _KV_HEADS, _HEAD_DIM = 2, 4, 2, 16
_SIZE, _INNER = _HEADS * _HEAD_DIM, 96
_EPS, _THETA = 1e-5, 10_000.0
_CLEAR = 1e-3
"""By how much the largest logit exceeds the next at least, so that no rounding in float32 swaps them."""


class TinyLlama:
    """Two layers; weights are drawn from a fixed seed, and large enough for every token to matter."""

    vocab_size = 96
    max_tokens = 256
    eos_token_id = 0

    def save(self, directory: Path) -> None:
        """Write config.json and model.safetensors, in float32. There is no tokenizer."""
        from safetensors.torch import save_file

        config: dict[str, Any] = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "dtype": "float32",
            "vocab_size": self.vocab_size,
            "hidden_size": _SIZE,
            "intermediate_size": _INNER,
            "num_hidden_layers": _LAYERS,
            "num_attention_heads": _HEADS,
            "num_key_value_heads": _KV_HEADS,
            "max_position_embeddings": self.max_tokens,
            "rms_norm_eps": _EPS,
            "rope_theta": _THETA,
            "tie_word_embeddings": False,
            "eos_token_id": self.eos_token_id,
        }
        (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
        save_file(self._weights, str(directory / "model.safetensors"), metadata={"format": "pt"})

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """The most likely token that follows, then the one after it, `count` in all."""
        import torch

        tokens = list(prompt)
        for _ in range(count):
            logits_2, ids_2 = self._logits(torch.tensor(tokens)).topk(2)
            assert logits_2[0] - logits_2[1] > _CLEAR, f"after {tokens} two tokens are as likely"
            tokens.append(int(ids_2[0]))
        return tokens[len(prompt) :]

    @cached_property
    def _weights(self) -> dict[str, torch.Tensor]:
        import torch

        generator = torch.Generator().manual_seed(5)

        def drawn(*shape: int, scale: float) -> torch.Tensor:
            return scale * torch.randn(shape, generator=generator)

        def norm() -> torch.Tensor:
            return torch.rand(_SIZE, generator=generator) + 0.5

        weights = {
            "model.embed_tokens.weight": drawn(self.vocab_size, _SIZE, scale=1.0),
            "model.norm.weight": norm(),
            "lm_head.weight": drawn(self.vocab_size, _SIZE, scale=0.5),
        }
        for layer in range(_LAYERS):
            prefix = f"model.layers.{layer}"
            weights[f"{prefix}.input_layernorm.weight"] = norm()
            weights[f"{prefix}.post_attention_layernorm.weight"] = norm()
            for name, rows in (
                ("q", _SIZE),
                ("k", _KV_HEADS * _HEAD_DIM),
                ("v", _KV_HEADS * _HEAD_DIM),
                ("o", _SIZE),
            ):
                weights[f"{prefix}.self_attn.{name}_proj.weight"] = drawn(rows, _SIZE, scale=0.3)
            for name, shape in (
                ("gate", (_INNER, _SIZE)),
                ("up", (_INNER, _SIZE)),
                ("down", (_SIZE, _INNER)),
            ):
                weights[f"{prefix}.mlp.{name}_proj.weight"] = drawn(*shape, scale=0.2)
        return weights

    def _logits(self, ids_T: torch.Tensor) -> torch.Tensor:
        """Of the token after the last: [V]."""
        hidden_TE = op_formulas.wide(self._weights["model.embed_tokens.weight"])[ids_T]
        for layer in range(_LAYERS):
            prefix = f"model.layers.{layer}"
            hidden_TE = hidden_TE + self._attended(
                self._normed(hidden_TE, f"{prefix}.input_layernorm"), prefix
            )
            x_TE = self._normed(hidden_TE, f"{prefix}.post_attention_layernorm")
            hidden_TE = hidden_TE + self._fed_forward(x_TE, f"{prefix}.mlp")
        return self._times(self._normed(hidden_TE, "model.norm"), "lm_head")[-1]

    def _attended(self, x_TE: torch.Tensor, prefix: str) -> torch.Tensor:
        import torch

        tokens = x_TE.shape[0]
        q_THD, k_TKD, v_TKD = (
            self._times(x_TE, f"{prefix}.self_attn.{name}_proj").unflatten(1, (-1, _HEAD_DIM))
            for name in "qkv"
        )
        positions_T = torch.arange(tokens)
        speeds_r = _THETA ** (-torch.arange(0, _HEAD_DIM, 2, dtype=torch.float64) / _HEAD_DIM)
        turns_Tr = torch.outer(positions_T.double(), speeds_r)
        table_TD = torch.cat((turns_Tr.cos(), turns_Tr.sin()), dim=1)
        q_THD = op_formulas.rotated(q_THD, positions_T, table_TD, interleaved=False)
        k_TKD = op_formulas.rotated(k_TKD, positions_T, table_TD, interleaved=False)
        k_THD, v_THD = (x.repeat_interleave(_HEADS // _KV_HEADS, dim=1) for x in (k_TKD, v_TKD))
        scores_HTT = torch.einsum("thd,shd->hts", q_THD, k_THD) / math.sqrt(_HEAD_DIM)
        later_TT = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
        weights_HTT = scores_HTT.masked_fill(later_TT, -math.inf).softmax(dim=-1)
        attended_TE = torch.einsum("hts,shd->thd", weights_HTT, v_THD).flatten(1)
        return self._times(attended_TE, f"{prefix}.self_attn.o_proj")

    def _fed_forward(self, x_TE: torch.Tensor, prefix: str) -> torch.Tensor:
        from torch.nn import functional

        gate_TI = functional.silu(self._times(x_TE, f"{prefix}.gate_proj"))
        return self._times(gate_TI * self._times(x_TE, f"{prefix}.up_proj"), f"{prefix}.down_proj")

    def _normed(self, x_TE: torch.Tensor, name: str) -> torch.Tensor:
        return op_formulas.rms_norm(x_TE, self._weights[f"{name}.weight"], eps=_EPS)

    def _times(self, x_TI: torch.Tensor, name: str) -> torch.Tensor:
        return op_formulas.product(x_TI, self._weights[f"{name}.weight"])


TINY_LLAMA = TinyLlama()
"""The one that there is."""
