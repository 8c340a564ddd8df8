"""From a checkpoint to a model of whole texts: an encoder, or a decoder without its head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from quire.errors import MissingCapability, UserError
from quire.models.build import attention_layers
from quire.models.capabilities import check_part
from quire.models.decoder import Decoder
from quire.models.dtypes import resolve_dtype
from quire.models.encoder_layout import encoder_tensors
from quire.models.encoder_spec import EncoderSpec
from quire.models.fields import Fields
from quire.models.layout import decoder_tensors
from quire.models.linears import Linears
from quire.models.loader import TensorFiles
from quire.models.model import ModelInfo
from quire.models.weights import Weights

if TYPE_CHECKING:
    import torch

    from quire.interfaces.architecture import Architecture
    from quire.interfaces.ops import Ops
    from quire.models.checkpoint import Checkpoint
    from quire.models.spec import DecoderSpec
    from quire.models.text_model import TextModel


def load_text_model(
    checkpoint: Checkpoint,
    *,
    architectures: Mapping[str, Architecture],
    ops: Ops,
    device: str,
    dtype: str = "auto",
) -> TextModel:
    """Load `checkpoint` on `device` for hidden states or scores.

    A decoder is read without its head: as `...Model`, or as `...ForCausalLM` where the files of
    sentence-transformers say that it makes embeddings. Raises UserError for a model that generates text.
    """
    import torch

    declared = checkpoint.config.get("dtype") or checkpoint.config.get("torch_dtype")
    torch_dtype = resolve_dtype(dtype, declared=declared, device=device)
    check_part("ops", ops, device=device, dtype=torch_dtype)
    architecture = _find(checkpoint, architectures)
    spec = architecture.spec(checkpoint.config)
    if isinstance(spec, EncoderSpec):
        from quire.models.encoder import Encoder

        return Encoder(
            spec=spec,
            info=_info(checkpoint, spec.vocab_size, spec.max_tokens),
            weights=Weights(
                files=TensorFiles(checkpoint.path),
                rename=architecture.weight_name,
                expected=encoder_tensors(spec),
                device=device,
                dtype=torch_dtype,
            ),
            ops=ops,
            device=torch.device(device),
        )
    return _headless(checkpoint, architecture, spec, ops=ops, device=device, dtype=torch_dtype)


def _find(checkpoint: Checkpoint, architectures: Mapping[str, Architecture]) -> Architecture:
    name = checkpoint.architecture
    if not checkpoint.makes_embeddings:
        raise UserError(
            f"model={checkpoint.name}: {name} generates text: embeddings and scores come from an encoder, a "
            "reranker, or a decoder with the files of sentence-transformers (modules.json)"
        )
    found = architectures.get(name) or architectures.get(f"{name.removesuffix('Model')}ForCausalLM")
    if found is None:
        encoders = sorted(each for each in architectures if not each.endswith("ForCausalLM"))
        raise UserError(
            f"model={checkpoint.name}: architecture {name} makes no embeddings here: must be one of "
            f"{', '.join(encoders)}, or a native decoder as ...Model"
        )
    return found


def _headless(
    checkpoint: Checkpoint,
    architecture: Architecture,
    spec: DecoderSpec,
    *,
    ops: Ops,
    device: str,
    dtype: torch.dtype,
) -> TextModel:
    import torch

    from quire.models.packed_attention import PackedAttention
    from quire.models.text_model import DecoderStates

    if spec.attention_softcap is not None:
        raise MissingCapability(
            f"model={checkpoint.name}: attention over whole texts has no softcap, which "
            f"{checkpoint.architecture} needs; families without one make embeddings"
        )
    if spec.alibi is not None:
        raise MissingCapability(
            f"model={checkpoint.name}: attention over whole texts has no alibi, which "
            f"{checkpoint.architecture} needs; families that rotate make embeddings"
        )
    if spec.latent is not None:
        raise MissingCapability(
            f"model={checkpoint.name}: attention over whole texts has no latents, which "
            f"{checkpoint.architecture} needs; families with keys and values make embeddings"
        )
    Fields(checkpoint.config).refuse(
        "quantization_config", "quantised checkpoints make no embeddings here; take the one it was made from"
    )
    spec = replace(spec, head=False)

    def rename(name: str) -> str | None:
        """Saved without its head, a decoder's tensors lack the prefix that says what the head is put on."""
        new = architecture.weight_name(name)
        if new == name:
            new = architecture.weight_name(f"model.{name}")
        return None if new == "head.weight" else new

    backend = PackedAttention()
    weights = Weights(
        files=TensorFiles(checkpoint.path),
        rename=rename,
        expected=decoder_tensors(spec),
        device=device,
        dtype=dtype,
    )
    info = _info(checkpoint, spec.vocab_size, spec.default_tokens)
    decoder = Decoder(
        spec=spec,
        info=info,
        layers=attention_layers(spec, info.max_tokens, device=device),
        weights=weights,
        linears=Linears(weights=weights, ops=ops, quantization=None),
        ops=ops,
        backend=backend,
        device=device,
    )
    return DecoderStates(decoder, hidden_size=spec.hidden_size, device=torch.device(device))


def _info(checkpoint: Checkpoint, vocab_size: int, max_tokens: int) -> ModelInfo:
    return ModelInfo(
        name=checkpoint.name,
        vocab_size=vocab_size,
        max_tokens=max_tokens,
        eos_token_ids=checkpoint.eos_token_ids,
    )
