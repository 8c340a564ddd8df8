"""A decoder described by flags: all that differs between the families that one implementation serves."""

from __future__ import annotations

from dataclasses import dataclass

from quire.errors import UserError
from quire.interfaces.ops import Activation
from quire.models.rope import Rope


@dataclass(frozen=True, kw_only=True, slots=True)
class MoeSpec:
    """Experts in the place of one feed-forward layer (Shazeer et al., 2017; Jiang et al., Mixtral, 2024).

    A token goes to the `experts_per_token` experts to which the router's softmax gives most. `normalise`
    scales the weights of those chosen to sum to one.
    """

    experts: int
    experts_per_token: int
    intermediate_size: int
    normalise: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerSpec:
    """What may differ from layer to layer. `window` is in tokens, as in KVGroup; None sees all."""

    rope: Rope
    window: int | None = None
    moe: MoeSpec | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderSpec:
    """Shape and flags of a decoder: attention, then a gated feed-forward layer, each with a residual."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    layers: tuple[LayerSpec, ...]
    norm_eps: float
    attention_scale: float
    activation: Activation = Activation.SILU
    tied_embeddings: bool = False
    """The output head is the embedding table."""
    head: bool = True
    """False: no output head at all, hidden states are what is wanted."""
    embedding_scale: float | None = None
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    qkv_bias: bool = False
    output_bias: bool = False
    """Bias of the attention's output projection."""
    mlp_bias: bool = False
    qk_norm: bool = False
    """RMS norm over each head of q and k, before rotation (Henry et al., 2020)."""
    post_norms: bool = False
    """A second norm after attention and after the feed-forward layer, before the residual is added."""
    unit_offset_norms: bool = False
    """Norms multiply by 1 + weight."""
    merged_qkv: bool = False
    """The checkpoint holds q, k and v as one tensor."""
    merged_gate_up: bool = False
    """The checkpoint holds gate and up as one tensor."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "intermediate_size", "heads", "kv_heads", "head_dim"):
            if getattr(self, name) < 1:
                raise UserError(f"config.json: {name}={getattr(self, name)}: must be at least 1")
        if not self.layers:
            raise UserError("config.json: num_hidden_layers=0: must be at least 1")
        if self.heads % self.kv_heads:
            raise UserError(
                f"config.json: num_attention_heads={self.heads}: must be a multiple of "
                f"num_key_value_heads={self.kv_heads}"
            )

    @property
    def max_tokens(self) -> int:
        """The longest sequence that the positions of every layer allow."""
        return min(layer.rope.max_tokens for layer in self.layers)

    @property
    def default_tokens(self) -> int:
        """The longest sequence where the user names no limit."""
        return min(layer.rope.default_tokens for layer in self.layers)
