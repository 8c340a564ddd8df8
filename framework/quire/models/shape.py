"""A model's shape, as far as scheduling and KV memory go, from its config.json alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire.errors import MissingCapability
from quire.models.kv_groups import kv_groups
from quire.models.model import ModelInfo

if TYPE_CHECKING:
    from quire.interfaces.allocator import KVGroup
    from quire.interfaces.architecture import Architecture
    from quire.models.checkpoint import Checkpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelShape:
    """What is known of a model whose weights are not loaded."""

    info: ModelInfo
    kv_groups: tuple[KVGroup, ...]
    element_bytes: int
    """Bytes of one number in KV memory."""


def read_shape(
    checkpoint: Checkpoint,
    *,
    architectures: Mapping[str, Architecture],
    device: str,
    dtype: str,
    max_tokens: int | None,
) -> ModelShape:
    """The shape of a model that a native architecture describes; the arguments are those of `load_model`.

    Raises MissingCapability for other models: how their layers attend shows only when they run.
    """
    from quire.models.build import attention_layers, refuse_embeddings
    from quire.models.capabilities import sequence_limit
    from quire.models.dtypes import resolve_dtype
    from quire.models.spec import DecoderSpec

    refuse_embeddings(checkpoint, architectures)
    architecture = architectures.get(checkpoint.architecture)
    if architecture is None:
        raise MissingCapability(
            f"model={checkpoint.name}: {checkpoint.architecture} is not native, so its shape cannot be read "
            f"without running it; native are {', '.join(sorted(architectures))}"
        )
    declared = checkpoint.config.get("dtype") or checkpoint.config.get("torch_dtype")
    spec = architecture.spec(checkpoint.config)
    assert isinstance(spec, DecoderSpec)
    limit = sequence_limit(requested=max_tokens, default=spec.default_tokens, longest=spec.max_tokens)
    return ModelShape(
        info=ModelInfo(
            name=checkpoint.name,
            vocab_size=spec.vocab_size,
            max_tokens=limit,
            eos_token_ids=checkpoint.eos_token_ids,
        ),
        kv_groups=kv_groups(attention_layers(spec, limit, device="cpu")),
        element_bytes=resolve_dtype(dtype, declared=declared, device=device).itemsize,
    )
