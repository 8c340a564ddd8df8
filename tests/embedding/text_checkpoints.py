"""Tiny checkpoints with random weights that embed or score, saved by transformers, and what it makes of them.

As in `models/checkpoints.py` every parameter is random and large enough that a flag read wrongly shows.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import (
    BertConfig,
    MistralConfig,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    RobertaConfig,
    XLMRobertaConfig,
)

from quire.models.checkpoint import open_checkpoint
from quire.models.text_build import load_text_model
from quire.models.text_model import TextModel
from quire.registry import load_registry
from quire_plugins.ops.torch_ops import TorchOps, TorchOpsConfig

VOCABULARY = 128
MAX_TOKENS = 512

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": MAX_TOKENS,
    "pad_token_id": 0,
}
_ROBERTA = _SIZES | {"max_position_embeddings": MAX_TOKENS + 2, "pad_token_id": 1, "type_vocab_size": 1}
_MODERN = _SIZES | {
    "num_hidden_layers": 4,
    "local_attention": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
}
_DECODER = _SIZES | {"num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
_BIASES = {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True}

ENCODERS: dict[str, tuple[str, Callable[[], PreTrainedConfig]]] = {
    "bert": ("BertModel", lambda: BertConfig(**_SIZES)),
    "bert_relu_one_type": (
        "BertForMaskedLM",
        lambda: BertConfig(**_SIZES, hidden_act="relu", type_vocab_size=1, layer_norm_eps=1e-5),
    ),
    "roberta": ("RobertaModel", lambda: RobertaConfig(**_ROBERTA)),
    "roberta_masked": ("RobertaForMaskedLM", lambda: RobertaConfig(**_ROBERTA, hidden_act="gelu_new")),
    "xlm_roberta": ("XLMRobertaModel", lambda: XLMRobertaConfig(**_ROBERTA)),
    "modern_bert": ("ModernBertModel", lambda: ModernBertConfig(**_MODERN)),
    "modern_bert_biases": (
        "ModernBertForMaskedLM",
        lambda: ModernBertConfig(
            **_MODERN, **_BIASES, layer_types=["sliding_attention"] * 3 + ["full_attention"]
        ),
    ),
}
DECODERS: dict[str, tuple[str, Callable[[], PreTrainedConfig]]] = {
    "qwen3": ("Qwen3Model", lambda: Qwen3Config(**_DECODER, head_dim=32)),
    "mistral_windows": ("MistralModel", lambda: MistralConfig(**_DECODER, sliding_window=16)),
}
RERANKERS: dict[str, tuple[str, Callable[[], PreTrainedConfig]]] = {
    "bert": ("BertForSequenceClassification", lambda: BertConfig(**_SIZES, num_labels=1)),
    "roberta": ("RobertaForSequenceClassification", lambda: RobertaConfig(**_ROBERTA, num_labels=1)),
    "xlm_roberta": (
        "XLMRobertaForSequenceClassification",
        lambda: XLMRobertaConfig(**_ROBERTA, num_labels=1),
    ),
    "modern_bert": ("ModernBertForSequenceClassification", lambda: ModernBertConfig(**_MODERN, num_labels=1)),
    "modern_bert_mean": (
        "ModernBertForSequenceClassification",
        lambda: ModernBertConfig(**_MODERN, **_BIASES, num_labels=1, classifier_pooling="mean"),
    ),
}

THREE_LABELS = ("BertForSequenceClassification", lambda: BertConfig(**_SIZES, num_labels=3))


def make_checkpoint(
    family: tuple[str, Callable[[], PreTrainedConfig]], directory: Path, *, seed: int = 0
) -> PreTrainedModel:
    """Save a model of that family and return it, in transformers' own eager attention: the oracle."""
    name, config = family
    torch.manual_seed(seed)
    model = getattr(transformers, name)._from_config(config(), attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                parameter.add_(noise * 0.2)
            else:
                parameter.copy_(noise * (1.5 * parameter.shape[-1] ** -0.5))
    model.save_pretrained(directory)
    return model


def load(directory: Path, **options: Any) -> TextModel:
    """The same checkpoint in quire, with plain operations unless told otherwise."""
    classes = load_registry().available("architecture")
    options = {"ops": TorchOps(config=TorchOpsConfig(), device="cpu"), "device": "cpu"} | options
    return load_text_model(
        open_checkpoint(str(directory)),
        architectures={name: architecture() for name, architecture in classes.items()},
        **options,
    )


def random_texts(lengths: Sequence[int], *, seed: int = 0) -> list[list[int]]:
    """Token ids from 3 on: neither padding nor special."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


@torch.no_grad()
def oracle_states(oracle: PreTrainedModel, text: Sequence[int]) -> np.ndarray:
    """The last hidden states [T, E] of one text alone, by transformers."""
    base = getattr(oracle, oracle.base_model_prefix, oracle)
    return base(input_ids=torch.tensor([list(text)])).last_hidden_state[0].numpy()


@torch.no_grad()
def oracle_logit(oracle: PreTrainedModel, text: Sequence[int], types: Sequence[int] | None = None) -> float:
    """The only logit of one text alone, by transformers."""
    extra = {} if types is None else {"token_type_ids": torch.tensor([list(types)])}
    return oracle(input_ids=torch.tensor([list(text)]), **extra).logits[0, 0].item()


def write_recipe(
    directory: Path, *, pooling: str = "mean_tokens", normalize: bool = True, **limits: Any
) -> None:
    """The files that sentence-transformers would save; `limits` are those of sentence_bert_config.json."""
    kinds = ["Transformer", "Pooling", *["Normalize"] * normalize]
    paths = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(zip(kinds, paths, strict=False))
    ]
    write_json(directory / "modules.json", modules)
    modes = dict.fromkeys(("cls_token", "mean_tokens", "max_tokens", "lasttoken"), False) | {pooling: True}
    write_json(
        directory / "1_Pooling" / "config.json", {f"pooling_mode_{mode}": on for mode, on in modes.items()}
    )
    write_json(directory / "sentence_bert_config.json", limits)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
