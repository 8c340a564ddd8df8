"""Loading a model through transformers, and finding out whether our attention serves it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from quire.errors import MissingCapability, UserError
from quire.models.capabilities import check_layers, sequence_limit
from quire.models.kv_groups import assign_groups
from quire.models.loader import TensorFiles
from quire.models.model import ModelInfo
from quire.models.transformers_attention import (
    ATTENTION_NAME,
    AttentionProbe,
    AttentionSlot,
    install_slot,
)
from quire.models.transformers_check import SelfCheck
from quire.models.transformers_model import TransformersModel, call_network

if TYPE_CHECKING:
    from quire.interfaces.attention import AttentionBackend, AttentionLayer
    from quire.models.checkpoint import Checkpoint

logger = logging.getLogger(__name__)


def load_through_transformers(
    checkpoint: Checkpoint,
    *,
    natives: tuple[str, ...],
    attention: AttentionBackend,
    device: str,
    dtype: torch.dtype,
    max_tokens: int | None,
) -> TransformersModel:
    """Raises UserError if transformers has no such causal language model, MissingCapability if our attention
    cannot serve it. A short text computed both ways must agree.
    """
    if not _is_causal_lm(checkpoint.architecture):
        raise UserError(
            f"model={checkpoint.name}: architecture {checkpoint.architecture} is unknown; native are "
            f"{', '.join(sorted(natives))}; others must be a causal language model of transformers"
        )
    logger.info("%s is not native: it runs through transformers", checkpoint.architecture)
    TensorFiles(checkpoint.path)  # reports an unreadable file by its name
    try:
        _check_class(checkpoint.architecture)
        network = _load_network(checkpoint, device=device, dtype=dtype)
        config = network.config.get_text_config()
        limit = _position_limit(checkpoint.name, config, max_tokens)
        slot = install_slot(network)
        layers = _attention_layers(network, slot, device=device)
        _check_windows(config, layers, limit)
    except MissingCapability as error:
        raise MissingCapability(
            f"model={checkpoint.name}: {checkpoint.architecture} cannot run: {error}"
        ) from None
    layers = assign_groups(
        [
            replace(layer, window=None) if layer.window is not None and layer.window >= limit else layer
            for layer in layers
        ]
    )
    check_layers(attention, layers, checkpoint.architecture)
    check = SelfCheck(network, layers, limit=limit, device=device)
    network.set_attn_implementation(ATTENTION_NAME)
    info = ModelInfo(
        name=checkpoint.name,
        vocab_size=config.vocab_size,
        max_tokens=limit,
        eos_token_ids=checkpoint.eos_token_ids,
    )
    model = TransformersModel(
        network=network, slot=slot, info=info, layers=layers, backend=attention, dtype=dtype
    )
    check.run(model, attention)
    return model


def _is_causal_lm(architecture: str) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return architecture in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()


def _check_class(architecture: str) -> None:
    """What can be told before any weight is read."""
    import transformers

    network_class = getattr(transformers, architecture)
    if network_class._is_stateful:
        raise MissingCapability("it keeps recurrent state besides keys and values")
    parameters = inspect.signature(network_class.forward).parameters
    for argument in ("position_ids", "logits_to_keep"):
        if argument not in parameters:
            raise MissingCapability(f"its forward takes no {argument}")


def _load_network(checkpoint: Checkpoint, *, device: str, dtype: torch.dtype) -> Any:
    """The model with its weights, in transformers' own plain attention."""
    from transformers import AutoModelForCausalLM

    try:
        with _no_progress_bar():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                checkpoint.path,
                dtype=dtype,
                attn_implementation="eager",
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"model={checkpoint.name}: transformers cannot load it: {reason}") from None
    network, report = loaded
    for kind in ("missing_keys", "mismatched_keys"):
        names = sorted(str(name) for name in report[kind])
        if names:
            what = kind.replace("_", " ")
            raise UserError(f"model={checkpoint.name}: weights: {len(names)} {what} ({names[0]} first)")
    return network.to(device).eval().requires_grad_(False)


@contextmanager
def _no_progress_bar() -> Generator[None]:
    """transformers' own bar would break into the run's."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


@torch.inference_mode()
def _attention_layers(network: Any, slot: AttentionSlot, *, device: str) -> list[AttentionLayer]:
    """Run one token to see what the network's layers ask of attention; it then has its own again."""
    network.set_attn_implementation(ATTENTION_NAME)
    probe = AttentionProbe()
    one = torch.zeros(1, dtype=torch.int64, device=device)
    call_network(network, slot, probe, one, one, one)
    network.set_attn_implementation("eager")
    layers = [probe.layers[index] for index in sorted(probe.layers)]
    config = network.config.get_text_config()
    if [layer.index for layer in layers] != list(range(config.num_hidden_layers)):
        raise MissingCapability(
            f"{len(layers)} of its {config.num_hidden_layers} layers use transformers' AttentionInterface"
        )
    return layers


def _check_windows(config: Any, layers: list[AttentionLayer], limit: int) -> None:
    """The windows that layers hand to attention must be those of the config, from which masks are made."""
    types: list[str] | None = getattr(config, "layer_types", None)
    window: int | None = getattr(config, "sliding_window", None)
    for layer, kind in zip(layers, types or (), strict=False):
        if kind != ("full_attention" if layer.window is None else "sliding_attention"):
            raise MissingCapability(f"layer {layer.index} has {kind} with a window of {layer.window}")
    if types is None and window is not None and window < limit:
        silent = [layer.index for layer in layers if layer.window is None]
        if silent:
            raise MissingCapability(f"layer {silent[0]} does not tell attention of its window of {window}")


def _position_limit(name: str, config: Any, requested: int | None) -> int:
    longest: int | None = getattr(config, "max_position_embeddings", None)
    rope: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        # transformers changes the frequencies of all sequences when one outgrows the original context.
        longest = rope["original_max_position_embeddings"]
    if longest is None:
        if requested is None:
            raise UserError(
                f"model={name}: its config names no longest sequence: set engine.max_model_tokens"
            )
        return requested
    return sequence_limit(requested=requested, default=longest, longest=longest)
