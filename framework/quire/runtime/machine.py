"""What the machine grants: CPU threads and memory, within the limits of its control group."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _ARENA_MAX = -3, -1, -8  # malloc.h
_HUGE, _MADV_HUGEPAGE, _MADV_POPULATE_WRITE = 2**21, 14, 23  # mman.h


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def cpu_threads() -> int:
    """Whole CPUs that this process may use: its affinity, cut by the control group's quota; at least 1."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = (_read(_CGROUP / "cpu.max") or "max").split()
    if quota[0] != "max" and len(quota) == 2:
        cpus = min(cpus, max(1, int(quota[0]) // int(quota[1])))
    return cpus


def available_bytes() -> int:
    """Memory that can still be taken without swapping, within the control group's limit."""
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    for line in (_read(Path("/proc/meminfo")) or "").splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    limit, used = _read(_CGROUP / "memory.max"), _read(_CGROUP / "memory.current")
    if limit is not None and limit != "max" and used is not None:
        # Files that were read, a checkpoint's above all, count as used until someone needs the room.
        files = [
            line.split()[1]
            for line in (_read(_CGROUP / "memory.stat") or "").splitlines()
            if line.startswith("inactive_file ")
        ]
        available = min(available, int(limit) - int(used) + sum(map(int, files)))
    return max(available, 0)


def share_one_heap() -> None:
    """Ask glibc's allocator for one arena for all threads, those that have one already excepted.

    In an arena of its own a thread cannot keep blocks of more than 32 MB (see `keep_freed_memory`). Other C
    libraries are left as they are.
    """
    _mallopt(_ARENA_MAX, 1)


def keep_freed_memory() -> None:
    """Ask glibc's allocator to keep large blocks that were freed.

    By default it gives them back to the system at once, and each step pays page faults for its activations
    again: a matrix product of 512 rows takes three times as long.
    """
    _mallopt(_MMAP_THRESHOLD, 2**30)
    _mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def prefer_huge_pages(address: int, size: int) -> None:
    """Ask the system for pages of 2 MiB in this range, before it is first written.

    What is read at the speed of memory is read up to twice as fast then. Systems that have no such pages to
    give leave it as it is.
    """
    first, end = -(-address // _HUGE) * _HUGE, (address + size) // _HUGE * _HUGE
    madvise = getattr(ctypes.CDLL(None), "madvise", None)
    if madvise is not None and sys.platform == "linux" and first < end:
        madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), _MADV_HUGEPAGE)


def find_pages(address: int, size: int) -> None:
    """Have the system find the pages of this range that are not there yet. What is in memory stays, whoever
    writes it meanwhile.

    Raises OSError: with EINVAL or ENOSYS where the system cannot be asked to (Linux can since 5.14), with
    another number where it has no memory, or none is mapped there.
    """
    page = os.sysconf("SC_PAGE_SIZE")
    first, end = address // page * page, -(-(address + size) // page) * page
    madvise = getattr(ctypes.CDLL(None, use_errno=True), "madvise", None)
    if madvise is None or sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), _MADV_POPULATE_WRITE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def lower_priority(by: int) -> None:
    """Let other threads go before the calling one, `by` steps of niceness, where the system tells threads
    apart and allows it.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):
            nice = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, min(nice + by, 19))


def _mallopt(parameter: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(parameter, value)
