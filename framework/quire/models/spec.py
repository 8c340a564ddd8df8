"""A decoder described by flags: all that differs between the families that one implementation serves."""

from __future__ import annotations

from dataclasses import dataclass

from quire.errors import UserError
from quire.interfaces.ops import Activation
from quire.models.alibi import Alibi
from quire.models.rope import Rope
from quire.models.unary import Unary


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertGroups:
    """Limits a token to the experts of some groups (DeepSeek-AI, "DeepSeek-V2", 2024, section 2.2.2).

    Experts lie in `groups` groups of equal size, one after another. Open to a token are the `open` of them in
    which the sum of its `counted` best scores is largest.
    """

    groups: int
    open: int
    counted: int


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
    sigmoid: bool = False
    """Each score for itself, by the logistic function, in the place of the softmax."""
    correction: bool = False
    """The checkpoint holds a number for each expert that counts in the choice, and not in the weights
    (DeepSeek-AI, "DeepSeek-V3", 2024, section 2.1.2)."""
    groups: ExpertGroups | None = None
    scale: float = 1.0
    """Of the sum of the experts chosen."""
    shared_size: int = 0
    """Inner dimension of the experts that all tokens use besides (Dai et al., DeepSeekMoE, 2024); 0: none."""
    exact_router: bool = False
    """Scores are computed in float32, whatever the model's type."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentSpec:
    """Multi-head latent attention (DeepSeek-AI, "DeepSeek-V2", 2024, section 2.1).

    A token's latent has `kv_rank` numbers, of which every head projects a key of `key_dim` and a value of
    `value_dim`. Behind that key comes one of `rotary_dim` that rotates, and that all heads share. Queries go
    through a latent of `q_rank` numbers, or none. `interleaved` says which dimensions turn in pairs (see
    `Ops.rotary`); the latents' own norms have `norm_eps`.
    """

    kv_rank: int
    rotary_dim: int
    key_dim: int
    value_dim: int
    q_rank: int | None
    interleaved: bool
    norm_eps: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerSpec:
    """What may differ from layer to layer. `window` is in tokens, as in KVGroup; None sees all.

    Without `rope` nothing turns.
    """

    rope: Rope | None = None
    window: int | None = None
    moe: MoeSpec | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderSpec:
    """Shape and flags of a decoder: attention, then a feed-forward layer, each with a residual."""

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
    """Of the gates."""
    ungated: Unary | None = None
    """Feed-forward layers have no gate but this function, down(f(up(x))) (Vaswani et al., 2017)."""
    tied_embeddings: bool = False
    """The output head is the embedding table."""
    head: bool = True
    """False: no output head at all, hidden states are what is wanted."""
    embedding_scale: float | None = None
    embedding_norm: bool = False
    """A norm between the embedding and the first layer."""
    alibi: Alibi | None = None
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    qkv_bias: bool = False
    qkv_clip: float | None = None
    """What q, k and v are clamped to, on either side of zero."""
    output_bias: bool = False
    """Bias of the attention's output projection."""
    mlp_bias: bool = False
    qk_norm: bool = False
    """RMS norm over each head of q and k, before rotation (Henry et al., 2020)."""
    post_norms: bool = False
    """A second norm after attention and after the feed-forward layer, before the residual is added."""
    unit_offset_norms: bool = False
    """Norms multiply by 1 + weight."""
    layer_norms: bool = False
    """Layer norms (Ba et al., 2016) in the place of those of the root mean square."""
    norm_bias: bool = False
    """Of layer norms."""
    parallel: bool = False
    """Attention and feed-forward layer see the same stream, which both add to (Wang and Komatsuzaki, GPT-J,
    2021)."""
    shared_norm: bool = False
    """One norm for both of those."""
    merged_qkv: bool = False
    """The checkpoint holds q, k and v as one tensor."""
    grouped_qkv: bool = False
    """In that tensor the query heads of a key-value head come before its key and value, group by group."""
    merged_gate_up: bool = False
    """The checkpoint holds gate and up as one tensor."""
    latent: LatentSpec | None = None
    """Every layer attends through latents; `head_dim` is then that of a whole query and key."""
    unread: tuple[str, ...] = ()
    """How the names of those tensors of the checkpoint begin that the decoder does without."""

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
        assert self.alibi is not None or any(layer.rope is not None for layer in self.layers)

    @property
    def max_tokens(self) -> int | None:
        """The longest sequence that the positions of every layer allow; None: they allow any."""
        return min((layer.rope.max_tokens for layer in self.layers if layer.rope is not None), default=None)

    @property
    def default_tokens(self) -> int:
        """The longest sequence where the user names no limit."""
        limits = [layer.rope.default_tokens for layer in self.layers if layer.rope is not None]
        return min(limits if self.alibi is None else [*limits, self.alibi.trained_tokens])
