"""What one sequence holds of a paged cache."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Holding:
    """A block table per group, all of the same length; None stands where a window has passed."""

    tables: tuple[list[int | None], ...]
    passed: list[int]
    """Leading entries of each group's table that are None."""
    tokens: int
    """Tokens that room was asked for."""
    capacity: int
    """Tokens that there is room for: table length times block size."""
    committed: int
    """Tokens computed in steps that were committed, or found."""
    offered: int
    """Leading blocks that are published, or need not be because equal ones were."""

    def held(self, group: int, *, end: int | None = None) -> list[int]:
        """The blocks of `group`, in order of position, before table index `end`."""
        return [block for block in self.tables[group][self.passed[group] : end] if block is not None]

    def pass_by(self, group: int, end: int) -> list[int]:
        """Take the blocks of `group` before table index `end` out of the table, and return them."""
        gone = self.held(group, end=end)
        first = self.passed[group]
        self.tables[group][first : first + len(gone)] = [None] * len(gone)
        self.passed[group] += len(gone)
        return gone

    def check_integrity(self, *, name: str, block_size: int) -> None:
        """Assert that the tables agree with each other and with what was asked for."""
        assert self.capacity - block_size < self.tokens <= self.capacity, f"{name}: {self}"
        assert self.committed <= self.tokens, f"{name}: {self}"
        for table, passed in zip(self.tables, self.passed, strict=True):
            assert len(table) * block_size == self.capacity, f"{name}: tables differ in length"
            assert table[:passed] == [None] * passed, f"{name}: a block before the window in {table}"
            blocks = table[passed:]
            assert None not in blocks, f"{name}: a hole in {table}"
            assert len(set(blocks)) == len(blocks), f"{name}: a block twice in {table}"
