"""The names and shapes of an encoder's tensors, as `Architecture.weight_name` must give them."""

from __future__ import annotations

from collections.abc import Iterator

from quire.models.encoder_spec import EncoderSpec
from quire.models.layout import Shape


def encoder_tensors(spec: EncoderSpec) -> dict[str, Shape]:
    """Every tensor that the encoder reads."""
    return dict(_tensors(spec))


def qkv_names(spec: EncoderSpec) -> tuple[str, ...]:
    """The tensors that one after another make up the joint q, k and v projection."""
    return ("qkv",) if spec.merged_qkv else ("q", "k", "v")


def has_attention_norm(spec: EncoderSpec, layer: int) -> bool:
    """Where norms go first, the embedding's own norm is that of the first layer's attention."""
    return layer > 0 or not spec.pre_norm


def _tensors(spec: EncoderSpec) -> Iterator[tuple[str, Shape]]:
    hidden = spec.hidden_size
    yield "embedding.weight", (spec.vocab_size, hidden)
    if spec.position_rows:
        yield "embedding.positions.weight", (spec.position_rows, hidden)
    if spec.token_types:
        yield "embedding.types.weight", (spec.token_types, hidden)
    yield from _norm("embedding.norm", spec)
    for layer in range(len(spec.layers)):
        prefix = f"layers.{layer}"
        for part in qkv_names(spec):
            rows = 3 * hidden if part == "qkv" else hidden
            yield from _linear(f"{prefix}.attention.{part}", rows, hidden, bias=spec.attention_bias)
        yield from _linear(f"{prefix}.attention.o", hidden, hidden, bias=spec.attention_bias)
        if has_attention_norm(spec, layer):
            yield from _norm(f"{prefix}.attention.norm", spec)
        width = spec.intermediate_size
        yield from _linear(f"{prefix}.mlp.up", 2 * width if spec.gated else width, hidden, bias=spec.mlp_bias)
        yield from _linear(f"{prefix}.mlp.down", hidden, width, bias=spec.mlp_bias)
        yield from _norm(f"{prefix}.mlp.norm", spec)
    if spec.pre_norm:
        yield from _norm("norm", spec)
    if spec.head is not None:
        yield from _linear("head.dense", hidden, hidden, bias=spec.head.dense_bias)
        if spec.head.norm:
            yield from _norm("head.norm", spec)
        yield from _linear("head.out", spec.head.labels, hidden, bias=True)


def _norm(name: str, spec: EncoderSpec) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (spec.hidden_size,)
    if spec.norm_bias:
        yield f"{name}.bias", (spec.hidden_size,)


def _linear(name: str, rows: int, columns: int, *, bias: bool) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (rows, columns)
    if bias:
        yield f"{name}.bias", (rows,)
