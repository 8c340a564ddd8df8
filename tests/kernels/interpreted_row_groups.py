"""Which rows the tiles of a launch have, by the interpreter, against a loop over the groups."""

import torch
import triton
import triton.language as tl
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quire_kernels.triton.row_groups import count_places, count_tiles, find_rows


@triton.jit
def rows_of_tiles_kernel(ends, out, groups, rows, TILE_T: tl.constexpr, GROUPS: tl.constexpr):
    tile = tl.program_id(0)
    group, first, end = find_rows(tile, ends, groups, rows, TILE_T, GROUPS)
    tl.store(out + 3 * tile, group)
    tl.store(out + 3 * tile + 1, first)
    tl.store(out + 3 * tile + 2, end)


def rows_of_tiles(counts: list[int], *, tile: int, grid: int, rows: int) -> list[list[int]]:
    """[group, first row, end of the group's rows] of each tile that has something to do."""
    ends_X = torch.tensor(counts).cumsum(0).to(torch.int32)
    out = torch.full((grid, 3), -1, dtype=torch.int32)
    places = count_places(len(counts))
    rows_of_tiles_kernel[(grid,)](ends_X, out, len(counts), rows, TILE_T=tile, GROUPS=places)
    return [row for row in out.tolist() if row[1] < row[2]]


@settings(max_examples=15, deadline=None)
@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    tile=st.sampled_from([2, 4, 16]),
    nobodys=st.integers(0, 3),
)
@example(counts=[5, 0, 6], tile=4, nobodys=0)
@example(counts=[0, 0, 0, 40, 0], tile=4, nobodys=0)
@example(counts=[1] * 16, tile=16, nobodys=0)
@example(counts=[0, 0], tile=4, nobodys=2)
def test_every_row_is_in_one_tile_of_its_group(counts: list[int], tile: int, nobodys: int) -> None:
    expected, start = [], 0
    for group, count in enumerate(counts):
        expected += [[group, first, start + count] for first in range(start, start + count, tile)]
        start += count
    grid = count_tiles(rows=start + nobodys, groups=len(counts), tile=tile)
    assert len(expected) <= grid
    assert rows_of_tiles(counts, tile=tile, grid=grid + 1, rows=start + nobodys) == expected


def test_launches_are_no_larger_than_the_worst_case() -> None:
    """All that rows and groups allow: as many groups as can have one row more than whole tiles."""
    for rows in range(1, 40):
        for groups in range(1, 9):
            most = max(
                sum(-(-count // 4) for count in (*[1] * ones, rows - ones)) if ones < groups else rows
                for ones in range(min(rows, groups))
            )
            assert most <= count_tiles(rows=rows, groups=groups, tile=4) <= most + 1
    assert count_tiles(rows=9, groups=None, tile=4) == 3
