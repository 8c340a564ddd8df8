"""What the chosen parts must be able to do for a model; a lack is an error that says what offers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.errors import MissingCapability, UserError
from quire.models.dtypes import dtype_name

if TYPE_CHECKING:
    import torch

    from quire.interfaces.attention import AttentionBackend, AttentionLayer
    from quire.interfaces.ops import Ops
    from quire.interfaces.quantization import Quantization


def check_part(
    kind: str, part: AttentionBackend | Ops | Quantization, *, device: str, dtype: torch.dtype
) -> None:
    """Raise MissingCapability unless the part runs on this device in this type."""
    name, device_type = type(part).__name__, device.partition(":")[0]
    if device_type not in part.devices:
        allowed = ", ".join(sorted(part.devices))
        raise MissingCapability(f"{kind}: {name} does not run on device={device_type}; it runs on {allowed}")
    if dtype_name(dtype) not in part.dtypes:
        allowed = ", ".join(sorted(part.dtypes))
        raise MissingCapability(f"{kind}: {name} lacks dtype={dtype_name(dtype)}; it offers {allowed}")


def check_layers(attention: AttentionBackend, layers: tuple[AttentionLayer, ...], architecture: str) -> None:
    """Raise MissingCapability unless the backend offers the attention that every layer needs."""
    name = type(attention).__name__
    needs = {
        "softcap": any(layer.softcap is not None for layer in layers) and not attention.supports_softcap,
        "sinks": any(layer.sinks_H is not None for layer in layers) and not attention.supports_sinks,
        "alibi": any(layer.alibi_slopes_H is not None for layer in layers) and not attention.supports_alibi,
        "latents": any(layer.latent_dim is not None for layer in layers) and not attention.supports_latents,
    }
    for feature, lacking in needs.items():
        if lacking:
            raise MissingCapability(
                f"attention: {name} lacks {feature}, which {architecture} needs; "
                f"choose a backend whose supports_{feature} is true"
            )


def sequence_limit(*, requested: int | None, default: int, longest: int | None) -> int:
    """The longest sequence to admit, in tokens. Raises UserError if more is asked than positions allow, of
    which None allows any.
    """
    if requested is None:
        return default
    if longest is not None and requested > longest:
        raise UserError(f"engine.max_model_tokens={requested}: must be at most {longest}, the model's limit")
    return requested
