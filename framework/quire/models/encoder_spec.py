"""An encoder described by flags: BERT and its descendants, up to ModernBERT."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from quire.errors import UserError
from quire.models.rope import Rope
from quire.models.unary import Unary


class Pooling(enum.Enum):
    """How the hidden states of a text become one vector: their mean, the first one, the last one."""

    mean = "mean"
    cls = "cls"
    last = "last"


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderLayerSpec:
    """What may differ from layer to layer.

    Tokens see those at most `reach` positions away, on either side; None sees all. Without `rope` positions
    are told by the embedding alone.
    """

    rope: Rope | None = None
    reach: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadSpec:
    """What judges a text, or a pair of them: dense, activation, perhaps a norm, then `labels` logits."""

    labels: int
    pooling: Pooling = Pooling.cls
    activation: Unary = Unary.TANH
    dense_bias: bool = True
    norm: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderSpec:
    """Shape and flags of an encoder: attention in both directions, then a feed-forward layer.

    Norms come after each residual sum (Devlin et al., BERT, 2019) or, with `pre_norm`, before each block
    (Warner et al., ModernBERT, 2024).
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    heads: int
    layers: tuple[EncoderLayerSpec, ...]
    max_tokens: int
    norm_eps: float
    activation: Unary = Unary.GELU
    position_rows: int = 0
    """Rows of the table of learned positions; 0: there is none."""
    first_position: int = 0
    """Row of that table for a text's first token."""
    token_types: int = 0
    """Rows of the table of token types (which part of a pair a token is in); 0: there is none."""
    pre_norm: bool = False
    gated: bool = False
    """activation(a) * b over two halves of the first product (Shazeer, 2020)."""
    attention_bias: bool = True
    mlp_bias: bool = True
    norm_bias: bool = True
    merged_qkv: bool = False
    """The checkpoint holds q, k and v as one tensor."""
    head: HeadSpec | None = None
    """None: it makes hidden states only."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "intermediate_size", "heads", "max_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"config.json: {name}={getattr(self, name)}: must be at least 1")
        if not self.layers:
            raise UserError("config.json: num_hidden_layers=0: must be at least 1")
        if self.hidden_size % self.heads:
            raise UserError(
                f"config.json: hidden_size={self.hidden_size}: must be a multiple of "
                f"num_attention_heads={self.heads}"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.heads
