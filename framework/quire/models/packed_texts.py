"""Whole texts, packed without padding: what a model that keeps no KV memory computes at once.

packed tokens   | text 0 | text 1 | text 2 |    text 3    |     text 4     |      in order of length
groups          |------- group 0 ----------|----------- group 1 -----------|      attention only:
                  3 equal lengths: a view     padded to the longest of them       all else runs packed
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_SLACK = 1.25
"""A group's longest text is at most that much longer than its shortest: a fifth of the work is padding."""
_SLACK_TOKENS = 4
"""Or that many tokens longer: among short texts another call costs more than padding."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TextGroup:
    """N texts of similar lengths, one after another; L is the longest.

    Where lengths differ, `cells_NL` is the packed token of each cell of the padded form (a text's last one
    beyond its end), `tokens_T` the cell of each of the group's tokens, `valid_NL` whether a cell is a token.
    """

    rows: slice
    """The group's among the packed tokens."""
    count: int
    longest: int
    cells_NL: torch.Tensor | None = None
    tokens_T: torch.Tensor | None = None
    valid_NL: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PackedTexts:
    """T tokens of S texts. `type_ids_T` is None where no text is a pair."""

    token_ids_T: torch.Tensor
    positions_T: torch.Tensor
    type_ids_T: torch.Tensor | None
    lengths_S: torch.Tensor
    """int64, on the device."""
    lengths: tuple[int, ...]
    groups: tuple[TextGroup, ...]

    @property
    def num_tokens(self) -> int:
        return self.token_ids_T.shape[0]


def pack(
    token_ids: Sequence[Sequence[int]], type_ids: Sequence[Sequence[int]] | None, *, device: torch.device
) -> PackedTexts:
    """Pack texts, none of them empty, in the order given; best in order of length."""
    import torch

    lengths = tuple(len(ids) for ids in token_ids)
    lengths_S = torch.tensor(lengths, device=device)
    return PackedTexts(
        token_ids_T=torch.from_numpy(_joined(token_ids)).to(device),
        positions_T=torch.from_numpy(np.concatenate([np.arange(n) for n in lengths])).to(device),
        type_ids_T=None if type_ids is None else torch.from_numpy(_joined(type_ids)).to(device),
        lengths_S=lengths_S,
        lengths=lengths,
        groups=group_texts(lengths, device=device),
    )


def group_texts(lengths: Sequence[int], *, device: torch.device) -> tuple[TextGroup, ...]:
    """Cut the texts, in their order, where padding to the longest would cost too much."""
    groups: list[TextGroup] = []
    token = 0
    for members in _similar(lengths):
        groups.append(_group(members, token, device))
        token += sum(members)
    return tuple(groups)


def _similar(lengths: Sequence[int]) -> Iterator[list[int]]:
    members: list[int] = []
    shortest = longest = 0
    for length in lengths:
        if members:
            shortest, longest = min(length, shortest), max(length, longest)
        if not members or longest > max(shortest * _SLACK, shortest + _SLACK_TOKENS):
            if members:
                yield members
            members, shortest, longest = [], length, length
        members.append(length)
    yield members


def _group(members: list[int], first: int, device: torch.device) -> TextGroup:
    import torch

    count, longest = len(members), max(members)
    rows = slice(first, first + sum(members))
    if min(members) == longest:
        return TextGroup(rows=rows, count=count, longest=longest)
    lengths_N1 = torch.tensor(members)[:, None]
    starts_N1 = first + torch.cumsum(lengths_N1, 0) - lengths_N1
    column_L = torch.arange(longest)
    valid_NL = column_L < lengths_N1
    return TextGroup(
        rows=rows,
        count=count,
        longest=longest,
        cells_NL=(starts_N1 + torch.minimum(column_L, lengths_N1 - 1)).to(device),
        tokens_T=valid_NL.flatten().nonzero()[:, 0].to(device),
        valid_NL=valid_NL.to(device),
    )


def _joined(lists: Sequence[Sequence[int]]) -> np.ndarray:
    return np.concatenate([np.asarray(ids, dtype=np.int64) for ids in lists])
