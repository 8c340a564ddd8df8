"""What is asked of the machine's memory."""

import ctypes
import mmap
import sys
from pathlib import Path

import pytest

from quire.runtime.machine import prefer_huge_pages

MIB = 2**20


@pytest.mark.skipif(
    sys.platform != "linux" or not Path("/sys/kernel/mm/transparent_hugepage/enabled").exists(),
    reason="huge pages are asked for on Linux, where the kernel has them",
)
def test_huge_pages_are_asked_for_inside_the_range_and_nowhere_else():
    memory = mmap.mmap(-1, 16 * MIB)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    asked = -(-address // (2 * MIB)) * 2 * MIB + 4096
    prefer_huge_pages(asked, 8 * MIB)
    inside = (asked + 2 * MIB) // (2 * MIB) * 2 * MIB
    assert "hg" in flags_at(inside)
    assert "hg" in flags_at(inside + 6 * MIB - 4096)
    assert "hg" not in flags_at(inside - 4096)
    assert "hg" not in flags_at(inside + 6 * MIB)


def test_a_range_smaller_than_a_page_is_left_alone():
    memory = mmap.mmap(-1, 4096)
    prefer_huge_pages(ctypes.addressof(ctypes.c_char.from_buffer(memory)), 4096)


def flags_at(address: int) -> list[str]:
    """The kernel's flags of the mapping that holds `address`."""
    here = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        span = line.split(" ", 1)[0]
        if "-" in span and not span.endswith(":"):
            first, end = (int(part, 16) for part in span.split("-"))
            here = first <= address < end
        elif here and line.startswith("VmFlags:"):
            return line.split()[1:]
    raise AssertionError(f"nothing is mapped at {address:#x}")
