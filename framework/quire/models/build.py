"""From a checkpoint to a model that is ready to run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from quire.errors import MissingCapability, UserError
from quire.interfaces.attention import AttentionLayer
from quire.models.capabilities import check_layers, check_part, sequence_limit
from quire.models.checkpoint import Checkpoint, open_checkpoint
from quire.models.decoder import Decoder
from quire.models.dtypes import resolve_dtype
from quire.models.kv_groups import assign_groups
from quire.models.layout import decoder_tensors
from quire.models.linears import Linears
from quire.models.model import Model, ModelInfo
from quire.models.shard import cuts, local_spec
from quire.models.spec import DecoderSpec
from quire.models.stored.files import open_weights
from quire.models.weights import Weights

if TYPE_CHECKING:
    import torch

    from quire.interfaces.architecture import Architecture
    from quire.interfaces.attention import AttentionBackend
    from quire.interfaces.ops import Ops
    from quire.interfaces.quantization import Quantization
    from quire.runtime.rank_group import RankGroup

logger = logging.getLogger(__name__)


def load_model(
    model: str | Checkpoint,
    *,
    architectures: Mapping[str, Architecture],
    attention: AttentionBackend,
    ops: Ops,
    quantization: Quantization,
    device: str,
    dtype: str = "auto",
    max_tokens: int | None = None,
    group: RankGroup | None = None,
) -> Model:
    """Load `model` (see `open_checkpoint`) on `device`: "cpu", "cuda" or "cuda:1".

    `architectures` maps the class names of config.json to native architectures; any other causal language
    model that transformers knows runs through transformers. `max_tokens` limits the length of a sequence;
    None takes the model's own limit. With `group` it is this rank's share of the model, whose results are
    the whole's. Raises UserError, of one line, for whatever the checkpoint or the choice of parts makes
    impossible.
    """
    checkpoint = model if isinstance(model, Checkpoint) else open_checkpoint(model)
    declared = checkpoint.config.get("dtype") or checkpoint.config.get("torch_dtype")
    torch_dtype = resolve_dtype(dtype, declared=declared, device=device)
    check_part("attention", attention, device=device, dtype=torch_dtype)
    check_part("ops", ops, device=device, dtype=torch_dtype)
    check_part("quantization", quantization, device=device, dtype=torch_dtype)
    architecture = architectures.get(checkpoint.architecture)
    refuse_embeddings(checkpoint, architectures)
    if architecture is not None:
        return _load_native(
            checkpoint,
            architecture=architecture,
            attention=attention,
            ops=ops,
            quantization=quantization,
            device=device,
            dtype=torch_dtype,
            max_tokens=max_tokens,
            group=group,
        )
    if group is not None:
        raise MissingCapability(
            f"executor.ranks: {checkpoint.architecture} runs through transformers, on one rank only; "
            f"{', '.join(sorted(architectures))} can be divided"
        )
    if not quantization.keeps_checkpoint:
        raise MissingCapability(
            f"quantization: {checkpoint.architecture} runs through transformers, with weights of its own: "
            f"must be none; {', '.join(sorted(architectures))} can be quantised"
        )
    from quire.models.transformers_loader import load_through_transformers

    return load_through_transformers(
        checkpoint,
        natives=tuple(architectures),
        attention=attention,
        device=device,
        dtype=torch_dtype,
        max_tokens=max_tokens,
    )


def refuse_embeddings(checkpoint: Checkpoint, architectures: Mapping[str, Architecture]) -> None:
    """Raise UserError for a model that quire runs, but not to generate."""
    name = checkpoint.architecture
    native = name in architectures or f"{name.removesuffix('Model')}ForCausalLM" in architectures
    if native and checkpoint.makes_embeddings:
        raise UserError(
            f"model={checkpoint.name}: {name} makes embeddings or scores and generates no text: choose "
            "task=embed, or LLM.embed and LLM.score"
        )


def _load_native(
    checkpoint: Checkpoint,
    *,
    architecture: Architecture,
    attention: AttentionBackend,
    ops: Ops,
    quantization: Quantization,
    device: str,
    dtype: torch.dtype,
    max_tokens: int | None,
    group: RankGroup | None,
) -> Decoder:
    whole = architecture.spec(checkpoint.config)
    assert isinstance(whole, DecoderSpec)
    spec = whole if group is None else local_spec(whole, group.share)
    limit = sequence_limit(requested=max_tokens, default=spec.default_tokens, longest=spec.max_tokens)
    if max_tokens is None and limit != spec.max_tokens:
        more = "" if spec.max_tokens is None else f" (up to {spec.max_tokens})"
        logger.info(
            "%s: sequences of up to %d tokens; engine.max_model_tokens%s allows longer ones",
            checkpoint.name,
            limit,
            more,
        )
    layers = attention_layers(spec, limit, device=device)
    check_layers(attention, layers, checkpoint.architecture)

    def rename(name: str) -> str | None:
        if name.startswith(spec.unread):
            return None
        new = architecture.weight_name(name)
        return None if spec.tied_embeddings and new == "head.weight" else new

    weights = Weights(
        files=open_weights(checkpoint),
        rename=rename,
        expected=decoder_tensors(whole),
        device=device,
        dtype=dtype,
        cuts=None if group is None else cuts(whole, group.share),
    )
    info = ModelInfo(
        name=checkpoint.name,
        vocab_size=spec.vocab_size,
        max_tokens=limit,
        eos_token_ids=checkpoint.eos_token_ids,
    )
    return Decoder(
        spec=spec,
        info=info,
        layers=layers,
        weights=weights,
        linears=Linears(weights=weights, ops=ops, quantization=quantization, group=group),
        ops=ops,
        backend=attention,
        device=device,
    )


def attention_layers(spec: DecoderSpec, max_tokens: int, *, device: str) -> tuple[AttentionLayer, ...]:
    """The attention of each layer, for sequences of at most that many tokens."""
    import torch

    latent = spec.latent
    slopes_H = None
    if spec.alibi is not None:
        slopes_H = torch.tensor(spec.alibi.slopes, dtype=torch.float32, device=device)
    return assign_groups(
        [
            AttentionLayer(
                index=index,
                group=0,
                heads=spec.heads,
                kv_heads=spec.kv_heads if latent is None else 1,
                head_dim=spec.head_dim if latent is None else latent.kv_rank + latent.rotary_dim,
                scale=spec.attention_scale,
                # A window that no sequence outgrows hides nothing: such layers join those that see all.
                window=layer.window if layer.window is not None and layer.window < max_tokens else None,
                softcap=spec.attention_softcap,
                alibi_slopes_H=slopes_H,
                latent_dim=None if latent is None else latent.kv_rank,
            )
            for index, layer in enumerate(spec.layers)
        ]
    )
