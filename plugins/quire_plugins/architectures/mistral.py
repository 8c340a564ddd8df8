"""Mistral (Jiang et al., 2023): Llama with a sliding window on every layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quire.interfaces.architecture import Architecture
from quire.models.fields import Fields
from quire.models.spec import DecoderSpec
from quire_plugins.architectures.llama import llama_spec, with_windows
from quire_plugins.architectures.names import LLAMA_NAMES, translate


class Mistral(Architecture):
    """MistralForCausalLM."""

    def spec(self, config: Mapping[str, Any]) -> DecoderSpec:
        fields = Fields(config)
        spec = llama_spec(fields)
        return with_windows(spec, [fields.optional_integer("sliding_window", 4096)] * len(spec.layers))

    def weight_name(self, name: str) -> str | None:
        return translate(name, LLAMA_NAMES)
