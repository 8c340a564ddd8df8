"""Rows sorted by group, and which of them a tile of a launch has: the grid hangs on shapes alone.

Tiles follow one another group by group, each as many as it needs; those of the grid that are left have
nothing to do. With tiles of 4 rows and groups of 5, 0 and 6 rows:

    tile      0    1    2    3    4        ends         5  5  11
    group     0    0    2    2    -        tiles        2  0  2
    rows     0-3   4   5-8  9-10  -        tiles in the grid: (11 + 3 x 3) // 4
"""

import triton
import triton.language as tl


def count_tiles(*, rows: int, groups: int | None, tile: int) -> int:
    """Tiles of a launch over so many rows, the most that groups can need; without groups all rows are one."""
    return (rows + (1 if groups is None else min(rows, groups)) * (tile - 1)) // tile


def count_places(groups: int | None) -> int:
    """GROUPS of `find_rows`."""
    return 1 if groups is None else triton.next_power_of_2(groups)


@triton.jit
def find_rows(tile, ends, groups, rows, TILE_T: tl.constexpr, GROUPS: tl.constexpr):
    """(group, first row, end of the group's rows) of a tile; the last two are 0 if it has nothing to do.

    `ends` may be None, and all rows are group 0. GROUPS is a power of two, `groups` or more.
    """
    if ends is None:
        return tile * 0, tile * TILE_T, rows
    else:
        place_G = tl.arange(0, GROUPS)
        end_G = tl.load(ends + place_G, mask=place_G < groups, other=0)
        start_G = tl.load(ends + place_G - 1, mask=(place_G > 0) & (place_G < groups), other=0)
        tiles_G = tl.cdiv(end_G - start_G, TILE_T)
        past_G = tl.cumsum(tiles_G, 0)
        group = tl.sum((past_G <= tile).to(tl.int32), 0)
        first_G = start_G + (tile - past_G + tiles_G) * TILE_T
        first = tl.sum(tl.where(place_G == group, first_G, 0), 0)
        return group, first, tl.sum(tl.where(place_G == group, end_G, 0), 0)
