"""A model architecture translates a Hugging Face checkpoint into a decoder's flags and weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quire.models.spec import DecoderSpec


class Architecture(ABC):
    """Chosen by `architectures` in a checkpoint's config.json; registered under that class name."""

    @abstractmethod
    def spec(self, config: Mapping[str, Any]) -> DecoderSpec:
        """The decoder's shape and flags from the content of config.json. Raises UserError, naming the field,
        if the checkpoint asks for something that the native decoder lacks.
        """

    @abstractmethod
    def weight_name(self, name: str) -> str | None:
        """The decoder's name of a checkpoint tensor; None for one that is not needed."""
