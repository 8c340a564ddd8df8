"""Reading a rotary embedding from config.json, in its old form (rope_scaling) or new (rope_parameters)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from quire.models.fields import Fields
from quire.models.rope import LinearRope, Llama3Rope, LongRope, Rope, YarnRope

_TYPES = {name: name for name in ("default", "linear", "dynamic", "llama3", "yarn", "longrope")}


def read_rope(
    fields: Fields,
    *,
    head_dim: int,
    default_theta: float = 10_000.0,
    aliases: Mapping[str, str] | None = None,
) -> Rope:
    """The rotation that config.json asks for. `aliases` renames rope types as a family misnamed them."""
    scaling = fields.section("rope_parameters") or fields.section("rope_scaling") or Fields({})
    theta = fields.number("rope_theta", default_theta)
    partial = fields.number("partial_rotary_factor", 1.0)
    return rope_of(
        scaling,
        head_dim=head_dim,
        theta=scaling.number("rope_theta", theta),
        partial=scaling.number("partial_rotary_factor", partial),
        max_tokens=fields.integer("max_position_embeddings"),
        original_tokens=fields.optional_integer("original_max_position_embeddings"),
        aliases=aliases,
    )


def rope_of(
    scaling: Fields,
    *,
    head_dim: int,
    theta: float,
    max_tokens: int,
    partial: float = 1.0,
    original_tokens: int | None = None,
    aliases: Mapping[str, str] | None = None,
) -> Rope:
    """The rotation described by one object of scaling parameters; empty means plain.

    `max_tokens` is config.json's max_position_embeddings, `original_tokens` its field of the original
    context, which goes before the one among the parameters.
    """
    types = _TYPES | dict(aliases or {})
    key = "rope_type" if scaling.values.get("rope_type") is not None else "type"
    kind = scaling.choice(key, types, "default")
    dims = int(head_dim * partial)
    original = original_tokens or scaling.integer("original_max_position_embeddings", max_tokens)
    if kind == "linear":
        return LinearRope(theta=theta, dims=dims, max_tokens=max_tokens, factor=scaling.number("factor"))
    if kind == "llama3":
        return Llama3Rope(
            theta=theta,
            dims=dims,
            max_tokens=max_tokens,
            factor=scaling.number("factor"),
            low_freq_factor=scaling.number("low_freq_factor"),
            high_freq_factor=scaling.number("high_freq_factor"),
            original_tokens=original,
        )
    if kind == "yarn":
        return _yarn(scaling, theta=theta, dims=dims, max_tokens=max_tokens, original_tokens=original)
    if kind == "longrope":
        factor = scaling.number("factor", max_tokens / original)
        stretched = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
        return LongRope(
            theta=theta,
            dims=dims,
            max_tokens=max_tokens,
            original_tokens=original,
            short_factors=scaling.numbers("short_factor", length=dims // 2),
            long_factors=scaling.numbers("long_factor", length=dims // 2),
            attention_factor=scaling.number("attention_factor", stretched),
        )
    # "dynamic" (NTK-aware) is the plain rotation up to max_tokens. Beyond, its frequencies would change with
    # the sequence's length and so belie the keys already cached; such sequences are not admitted.
    return Rope(theta=theta, dims=dims, max_tokens=max_tokens)


def score_stretch(fields: Fields) -> float:
    """What DeepSeek multiplies scores by where positions are stretched by YaRN: the amplitude of
    `mscale_all_dim` on all dimensions of q and k, of which `YarnRope` knows the rotated ones only.
    """
    scaling = fields.section("rope_parameters") or fields.section("rope_scaling") or Fields({})
    mscale = scaling.number("mscale_all_dim", 0.0)
    return _yarn_amplitude(scaling.number("factor"), mscale) ** 2 if mscale else 1.0


def _yarn(scaling: Fields, *, theta: float, dims: int, max_tokens: int, original_tokens: int) -> YarnRope:
    factor = scaling.number("factor", max_tokens / original_tokens)
    mscale, mscale_all = scaling.number("mscale", 0.0), scaling.number("mscale_all_dim", 0.0)
    if mscale and mscale_all:
        amplitude = _yarn_amplitude(factor, mscale) / _yarn_amplitude(factor, mscale_all)
    else:
        amplitude = _yarn_amplitude(factor, 1.0)
    return YarnRope(
        theta=theta,
        dims=dims,
        # Checkpoints made for YaRN afterwards often keep the unstretched max_position_embeddings.
        max_tokens=max(max_tokens, int(original_tokens * factor)),
        factor=factor,
        original_tokens=original_tokens,
        beta_fast=scaling.number("beta_fast", 32.0),
        beta_slow=scaling.number("beta_slow", 1.0),
        truncate=scaling.flag("truncate", True),
        attention_factor=scaling.number("attention_factor", amplitude),
    )


def _yarn_amplitude(factor: float, mscale: float) -> float:
    """Equation 22 of the paper, with the checkpoint's own multiplier of the logarithm."""
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0
