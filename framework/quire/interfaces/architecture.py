"""An architecture translates a Hugging Face checkpoint into flags and weights of a decoder or encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quire.models.encoder_spec import EncoderSpec
    from quire.models.spec import DecoderSpec


class Architecture(ABC):
    """Chosen by `architectures` in a checkpoint's config.json; registered under that class name."""

    @abstractmethod
    def spec(self, config: Mapping[str, Any]) -> DecoderSpec | EncoderSpec:
        """The model's shape and flags from the content of config.json: a decoder generates, an encoder makes
        embeddings or scores. Raises UserError, naming the field, if the checkpoint asks for something that
        the native implementation lacks.
        """

    @abstractmethod
    def weight_name(self, name: str) -> str | None:
        """Our name of a checkpoint tensor (see `decoder_tensors`, `encoder_tensors`); None: not needed."""
