"""Rows sorted by group, and which of them a tile of a launch has: the grid hangs on shapes alone.

Group g owns the rows ends[g - 1]:ends[g] and the tiles from ends[g - 1] // TILE_T + g on: never fewer than it
needs, at most one more. With tiles of 4 rows and groups of 5, 0 and 6 rows:

    tile      0    1    2    3    4        ends         5  5  11
    group     0    0    1    2    2        first tiles  0  2  3
    rows     0-3   4    -   5-8  9-10      tiles in the grid: 11 // 4 + 3
"""

import triton
import triton.language as tl


def count_tiles(*, rows: int, groups: int | None, tile: int) -> int:
    """Tiles of a launch over so many rows; without groups all rows are one."""
    return -(-rows // tile) if groups is None else rows // tile + groups


@triton.jit
def find_rows(tile, ends, groups, rows, TILE_T: tl.constexpr):
    """(group, first row, end of the group's rows) of a tile; `ends` may be None, and all rows are group 0."""
    if ends is None:
        return tile * 0, tile * TILE_T, rows
    else:
        low = tile * 0
        high = groups
        while high - low > 1:
            middle = (low + high) // 2
            if tl.load(ends + middle - 1) // TILE_T + middle <= tile:
                low = middle
            else:
                high = middle
        start = tl.load(ends + low - 1, mask=low > 0, other=0)
        return low, start + (tile - start // TILE_T - low) * TILE_T, tl.load(ends + low)
