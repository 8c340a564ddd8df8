"""Which part of a decoder each of several ranks holds (Shoeybi et al., Megatron-LM, 2019, section 3).

Attention heads, the inner dimension of feed-forward layers and experts, and the vocabulary are divided. The
products before them (q, k, v, gate, up) keep some rows of their weights; those after them (o, down) keep the
columns that belong to these, so that the sum over the ranks is the whole product.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from quire.errors import UserError
from quire.models.layout import decoder_tensors
from quire.models.spec import DecoderSpec, LayerSpec

if TYPE_CHECKING:
    import torch

    from quire.interfaces.quantization import IntegerMatrix

PARTIAL_SUMS = ("o", "down")
"""Products, by the last word of their names, whose results the ranks add up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """Rank `rank` of `size`, counted from 0."""

    rank: int
    size: int

    def of(self, total: int) -> tuple[int, int]:
        """(start, end) of this rank's part of `total` things in order; the last ranks may have fewer."""
        each = self.longest(total)
        return min(self.rank * each, total), min((self.rank + 1) * each, total)

    def longest(self, total: int) -> int:
        """The most that any rank has of `total` things."""
        return -(-total // self.size)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """The part of a tensor that a rank holds: these ranges (start, end) along `dim`, one after another."""

    dim: int
    ranges: tuple[tuple[int, int], ...]

    def shape(self, whole: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the part."""
        length = sum(end - start for start, end in self.ranges)
        return (*whole[: self.dim], length, *whole[self.dim + 1 :])

    def of(self, whole: torch.Tensor) -> torch.Tensor:
        """The part; a view where it is one range."""
        import torch

        parts = [whole.narrow(self.dim, start, end - start) for start, end in self.ranges]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=self.dim)

    def of_integers(self, whole: IntegerMatrix) -> IntegerMatrix:
        """The part of a quantised weight [O, I]. Raises UserError if a group along I would be cut in two."""
        scales, zeros = self, self
        if self.dim == 1:
            size = whole.group_size
            columns = whole.values_OI.shape[1]
            for start, end in self.ranges:
                if start % size or (end % size and end != columns):
                    raise UserError(
                        f"executor.ranks: a rank would hold columns {start} to {end} of a weight that is "
                        f"quantised in groups of {size}: must be whole groups"
                    )
            by_group = tuple((start // size, -(-end // size)) for start, end in self.ranges)
            scales = zeros = Cut(dim=1, ranges=by_group)
        return replace(
            whole,
            values_OI=self.of(whole.values_OI).contiguous(),
            scales_OG=scales.of(whole.scales_OG).contiguous(),
            zeros_OG=None if whole.zeros_OG is None else zeros.of(whole.zeros_OG).contiguous(),
            group_size=min(whole.group_size, self.shape(tuple(whole.values_OI.shape))[1]),
        )


def local_spec(spec: DecoderSpec, share: Share) -> DecoderSpec:
    """What a rank computes. Raises UserError if heads or inner dimensions can't be divided."""
    size = share.size

    def part(name: str, total: int) -> int:
        if total % size:
            raise UserError(f"executor.ranks={size}: must divide this model's {name}={total}")
        return total // size

    def local(layer: LayerSpec) -> LayerSpec:
        if layer.moe is None:
            return layer
        inner = part("moe_intermediate_size", layer.moe.intermediate_size)
        shared = part("inner dimension of shared experts", layer.moe.shared_size)
        return replace(layer, moe=replace(layer.moe, intermediate_size=inner, shared_size=shared))

    start, end = Share(rank=size - 1, size=size).of(spec.vocab_size)
    if start == end:
        raise UserError(
            f"executor.ranks={size}: must be fewer, for each to have a part of this model's "
            f"vocab_size={spec.vocab_size}"
        )
    dense = any(layer.moe is None for layer in spec.layers)
    alibi = spec.alibi
    if alibi is not None:
        alibi = replace(alibi, slopes=alibi.slopes[slice(*share.of(spec.heads))])
    inner = spec.intermediate_size
    return replace(
        spec,
        heads=part("num_attention_heads", spec.heads),
        kv_heads=part("num_key_value_heads", spec.kv_heads),
        alibi=alibi,
        intermediate_size=part("intermediate_size", inner) if dense else inner,
        layers=tuple(local(layer) for layer in spec.layers),
    )


def cuts(spec: DecoderSpec, share: Share) -> Mapping[str, Cut]:
    """By name, the tensors of which a rank holds a part; the others it holds whole. `spec` is the whole's."""
    return {
        name: Cut(dim=dim, ranges=tuple(_ranges(lengths, share)))
        for name, shape in decoder_tensors(spec).items()
        for dim, lengths in _divided(name, shape, spec)
    }


def _divided(name: str, shape: tuple[int, ...], spec: DecoderSpec) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The dimension that is divided, if one is, and what lies one after another along it."""
    *_, module, tensor = name.split(".")
    match module:
        case "qkv" if not spec.grouped_qkv:
            kv_rows = spec.kv_heads * spec.head_dim
            yield 0, (shape[0] - 2 * kv_rows, kv_rows, kv_rows)
        case "gate_up":
            yield 0, (shape[0] // 2,) * 2
        case "qkv" | "q" | "k" | "v" | "q_b" | "kv_b" | "gate" | "up" | "head":
            yield 0, (shape[0],)
        case "embedding" if spec.tied_embeddings:
            yield 0, (shape[0],)
        case _ if module in PARTIAL_SUMS and tensor == "weight":
            yield 1, (shape[1],)
        case _:
            pass


def _ranges(lengths: tuple[int, ...], share: Share) -> Iterator[tuple[int, int]]:
    first = 0
    for length in lengths:
        start, end = share.of(length)
        yield first + start, first + end
        first += length
