"""The names and shapes of a decoder's tensors, as `Architecture.weight_name` must give them."""

from __future__ import annotations

from collections.abc import Iterator

from quire.models.spec import DecoderSpec, LatentSpec, LayerSpec

Shape = tuple[int, ...]


def decoder_tensors(spec: DecoderSpec) -> dict[str, Shape]:
    """Every tensor that the decoder reads."""
    tensors: dict[str, Shape] = {
        "embedding.weight": (spec.vocab_size, spec.hidden_size),
    }
    tensors |= _norm(spec, "norm")
    if spec.embedding_norm:
        tensors |= _norm(spec, "embedding.norm")
    if spec.head and not spec.tied_embeddings:
        tensors["head.weight"] = (spec.vocab_size, spec.hidden_size)
    for index, layer in enumerate(spec.layers):
        prefix = f"layers.{index}"
        tensors |= {f"{prefix}.attention.{name}": shape for name, shape in _attention(spec)}
        tensors |= {f"{prefix}.mlp.{name}": shape for name, shape in _mlp(spec, layer)}
    return tensors


def qkv_parts(spec: DecoderSpec) -> tuple[str, ...]:
    """The tensors that one after another make up the joint q, k and v projection."""
    return ("qkv",) if spec.merged_qkv else ("q", "k", "v")


def gate_up_parts(spec: DecoderSpec) -> tuple[str, ...]:
    """The tensors that one after another make up the joint gate and up projection."""
    return ("gate_up",) if spec.merged_gate_up else ("gate", "up")


def _attention(spec: DecoderSpec) -> Iterator[tuple[str, Shape]]:
    if spec.latent is not None:
        yield from _latent_attention(spec, spec.latent)
        return
    hidden, dim = spec.hidden_size, spec.head_dim
    rows = {"q": spec.heads * dim, "k": spec.kv_heads * dim, "v": spec.kv_heads * dim}
    rows["qkv"] = sum(rows.values())
    yield from _norm(spec, "norm")
    for part in qkv_parts(spec):
        yield from _linear(part, rows[part], hidden, bias=spec.qkv_bias)
    yield from _linear("o", hidden, rows["q"], bias=spec.output_bias)
    if spec.qk_norm:
        yield "q_norm.weight", (dim,)
        yield "k_norm.weight", (dim,)
    if spec.post_norms:
        yield from _norm(spec, "post_norm")


def _latent_attention(spec: DecoderSpec, latent: LatentSpec) -> Iterator[tuple[str, Shape]]:
    hidden, queries = spec.hidden_size, spec.heads * spec.head_dim
    yield from _norm(spec, "norm")
    if latent.q_rank is None:
        yield from _linear("q", queries, hidden, bias=False)
    else:
        yield from _linear("q_a", latent.q_rank, hidden, bias=spec.qkv_bias)
        yield "q_a_norm.weight", (latent.q_rank,)
        yield from _linear("q_b", queries, latent.q_rank, bias=False)
    yield from _linear("kv_a", latent.kv_rank + latent.rotary_dim, hidden, bias=spec.qkv_bias)
    yield "kv_a_norm.weight", (latent.kv_rank,)
    yield from _linear("kv_b", spec.heads * (latent.key_dim + latent.value_dim), latent.kv_rank, bias=False)
    yield from _linear("o", hidden, spec.heads * latent.value_dim, bias=spec.output_bias)


def _mlp(spec: DecoderSpec, layer: LayerSpec) -> Iterator[tuple[str, Shape]]:
    if not spec.shared_norm:
        yield from _norm(spec, "norm")
    if spec.post_norms:
        yield from _norm(spec, "post_norm")
    if layer.moe is None and spec.ungated is not None:
        yield from _linear("up", spec.intermediate_size, spec.hidden_size, bias=spec.mlp_bias)
        yield from _linear("down", spec.hidden_size, spec.intermediate_size, bias=spec.mlp_bias)
        return
    if layer.moe is None:
        yield from _gated(spec, "", spec.intermediate_size, bias=spec.mlp_bias)
        return
    yield "router.weight", (layer.moe.experts, spec.hidden_size)
    if layer.moe.correction:
        yield "router.correction", (layer.moe.experts,)
    if layer.moe.shared_size:
        yield from _gated(spec, "shared.", layer.moe.shared_size, bias=spec.mlp_bias)
    for expert in range(layer.moe.experts):
        yield from _gated(spec, f"experts.{expert}.", layer.moe.intermediate_size, bias=False)


def _gated(spec: DecoderSpec, prefix: str, size: int, *, bias: bool) -> Iterator[tuple[str, Shape]]:
    for part in gate_up_parts(spec):
        yield from _linear(
            prefix + part, 2 * size if part == "gate_up" else size, spec.hidden_size, bias=bias
        )
    yield from _linear(prefix + "down", spec.hidden_size, size, bias=bias)


def _norm(spec: DecoderSpec, name: str) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (spec.hidden_size,)
    if spec.norm_bias:
        yield f"{name}.bias", (spec.hidden_size,)


def _linear(name: str, rows: int, columns: int, *, bias: bool) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (rows, columns)
    if bias:
        yield f"{name}.bias", (rows,)
