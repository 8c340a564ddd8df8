"""KV memory is found ahead of its use, so far and no further, for all tensors alike; what is in it stays."""

import ctypes
import errno
import gc
import logging
import mmap
import os
import sys
import threading
import time

import numpy as np
import pytest
import torch
from deferred import check_same, make_engine, results

from quire.engine.request import Request, SamplingParams
from quire.interfaces.kv_cache import KVCache, LatentCache
from quire.runtime import page_ahead
from quire.runtime.machine import find_pages, lower_priority
from quire.runtime.page_ahead import PageAhead

MIB = 2**20
PIECE = 2 * MIB
BLOCK = 16
"""Tokens."""
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux, and reads what it says")


class Finder:
    """Stands for the system: remembers what it was asked for."""

    def __init__(self, error: int | None = None) -> None:
        self.asked: list[tuple[int, int]] = []
        self._error = error

    def __call__(self, address: int, size: int) -> None:
        if self._error is not None:
            raise OSError(self._error, os.strerror(self._error))
        self.asked.append((address, size))

    def found(self, tensor: torch.Tensor) -> int:
        """Bytes asked for from the tensor's start on, without a gap and never twice."""
        end = start = tensor.data_ptr()
        for address, size in self.asked:
            if start <= address < start + tensor.nbytes:
                assert address == end, "pages are found in order"
                assert 0 < size <= PIECE
                end = address + size
                assert end % PIECE == 0 or end == start + tensor.nbytes, "a large page is found at once"
        return end - start


def untouched(blocks: int, block_bytes: int) -> torch.Tensor:
    """Memory of which no page has been found."""
    memory = mmap.mmap(-1, blocks * block_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(memory, dtype=torch.uint8).view(blocks, block_bytes)


def layers(number: int, blocks: int, block_bytes: int) -> list[KVCache]:
    return [
        KVCache(k=untouched(blocks, block_bytes), v=untouched(blocks, block_bytes)) for _ in range(number)
    ]


def slots_of(block: int) -> np.ndarray:
    """Of a step that writes the last token of `block`, after one of block 0."""
    return np.array([3, block * BLOCK + BLOCK - 1])


def wait_for(holds, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it does not come to it"
        time.sleep(0.002)


def enough(finder: Finder, tensors: list[torch.Tensor], nbytes: int) -> None:
    """Wait until `nbytes` of each tensor are found, and assert that no page without any of them is."""
    wait_for(lambda: all(finder.found(tensor) >= min(nbytes, tensor.nbytes) for tensor in tensors))
    time.sleep(0.05)  # in which it would go on
    for tensor in tensors:
        assert finder.found(tensor) < nbytes + PIECE


def test_it_stays_a_margin_ahead_of_the_highest_block():
    """4 tensors of 16 KiB a block: a stretch is 256 blocks, 4 MiB of each tensor; the margin is 4 of them."""
    finder = Finder()
    caches = layers(2, blocks=4096, block_bytes=16384)
    tensors = [tensor for cache in caches for tensor in cache.tensors()]
    pages = PageAhead(caches=caches, groups=(0, 0), block_size=BLOCK, find=finder)
    try:
        enough(finder, tensors, 16 * MIB)
        pages.follow([slots_of(255)])
        enough(finder, tensors, 20 * MIB)
        pages.follow([slots_of(256)])
        enough(finder, tensors, 24 * MIB)
        pages.follow([slots_of(30)])  # a block that is used again
        enough(finder, tensors, 24 * MIB)
        pages.follow([slots_of(4090)])
        wait_for(lambda: all(finder.found(tensor) == tensor.nbytes for tensor in tensors))
        wait_for(lambda: not pages._thread.is_alive())  # nothing is left to do
        pages.follow([slots_of(4095)])
    finally:
        pages.close()


def test_the_margin_grows_with_what_is_used():
    """16 tensors of 64 KiB a block, a stretch is 16 blocks: of 64 stretches begun the margin is an eighth."""
    finder = Finder()
    caches = layers(8, blocks=2048, block_bytes=65536)
    tensors = [tensor for cache in caches for tensor in cache.tensors()]
    pages = PageAhead(caches=caches, groups=(0,) * 8, block_size=BLOCK, find=finder)
    try:
        pages.follow([slots_of(16 * 64 - 1)])
        enough(finder, tensors, (64 + 8) * 16 * 65536)
    finally:
        pages.close()


def test_groups_advance_by_themselves_and_layers_of_one_together():
    """Rows of latents in a second group: a stretch is 120 blocks of each."""
    finder = Finder()
    plain, latent = layers(1, 2048, 65536)[0], LatentCache(rows=untouched(16384, 8192))
    pages = PageAhead(caches=[plain, latent], groups=(0, 1), block_size=BLOCK, find=finder)
    stretch = 16 * MIB // (65536 * 2 + 8192)
    try:
        enough(finder, [plain.k, plain.v], 4 * stretch * 65536)
        enough(finder, [latent.rows], 4 * stretch * 8192)
        ahead = [0, 0]
        for address, size in finder.asked:
            for which, tensor in enumerate((plain.k, plain.v)):
                if tensor.data_ptr() <= address < tensor.data_ptr() + tensor.nbytes:
                    ahead[which] += size
            assert abs(ahead[0] - ahead[1]) <= 2 * PIECE
        pages.follow([slots_of(0), slots_of(8000)])
        begun = 8000 // stretch + 1
        enough(finder, [latent.rows], (begun + begun // 8) * stretch * 8192)
        enough(finder, [plain.k, plain.v], 5 * stretch * 65536)
    finally:
        pages.close()


@pytest.mark.parametrize(
    ("number", "level"),
    [(errno.EINVAL, "DEBUG"), (errno.ENOSYS, "DEBUG"), (errno.ENOMEM, "WARNING"), (errno.EFAULT, "WARNING")],
)
def test_it_ends_quietly_where_the_system_does_not_find_pages(caplog, number, level):
    caplog.set_level(logging.DEBUG, logger="quire.runtime.page_ahead")
    pages = PageAhead(caches=layers(2, 64, 4096), groups=(0, 0), block_size=BLOCK, find=Finder(number))
    wait_for(lambda: not pages._thread.is_alive())
    pages.follow([slots_of(63)])
    pages.close()
    assert [record.levelname for record in caplog.records] == [level]
    assert os.strerror(number) in caplog.text


@pytest.mark.parametrize("busy", [False, True])
def test_closing_it_ends_the_thread(busy):
    def find(address: int, size: int) -> None:
        time.sleep(0.001)

    pages = PageAhead(caches=layers(8, 8192, 16384), groups=(0,) * 8, block_size=BLOCK, find=find)
    assert pages._thread.daemon
    if busy:
        pages.follow([slots_of(8191)])
    pages.close()
    assert not pages._thread.is_alive()
    pages.close()


@on_linux
def test_pages_are_there_before_anybody_writes(monkeypatch):
    """2 tensors, 4 KiB a block, a stretch of 1 MiB: 2 MiB of each tensor at the start."""
    monkeypatch.setattr(page_ahead, "_STRETCH", MIB)
    caches = layers(1, blocks=4096, block_bytes=4096)
    tensors = caches[0].tensors()
    assert [resident(tensor) for tensor in tensors] == [0, 0]
    pages = PageAhead(caches=caches, groups=(0,), block_size=BLOCK)
    try:
        wait_for(lambda: all(resident(tensor) >= 2 * MIB for tensor in tensors))
        time.sleep(0.05)
        assert all(resident(tensor) < 2 * MIB + 2 * PIECE for tensor in tensors)
        pages.follow([slots_of(4095)])
        wait_for(lambda: all(resident(tensor) == tensor.nbytes for tensor in tensors))
        assert not any(tensor.any() for tensor in tensors)
    finally:
        pages.close()


@on_linux
def test_what_is_written_meanwhile_stays():
    tensor = untouched(8192, 4096)
    content = torch.from_numpy(np.random.default_rng(0).integers(1, 256, (64, 4096), dtype=np.uint8))
    pages = PageAhead(caches=[LatentCache(rows=tensor)], groups=(0,), block_size=BLOCK)
    try:
        for first in np.random.default_rng(1).permutation(8192 // 64) * 64:
            tensor[first : first + 64] = content
        wait_for(lambda: not pages._thread.is_alive())
    finally:
        pages.close()
    assert torch.equal(tensor, content.repeat(8192 // 64, 1))


@on_linux
def test_a_range_that_is_not_mapped_is_an_error():
    memory = mmap.mmap(-1, 16 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    find_pages(address + 5000, 10)
    find_pages(address, 16 * MIB)
    with pytest.raises(OSError, match="memory") as error:
        find_pages(0x1000, 4096)
    assert error.value.errno == errno.ENOMEM


@on_linux
def test_only_the_calling_thread_lets_others_go_first():
    niceness = []

    def run() -> None:
        lower_priority(7)
        lower_priority(50)
        niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert niceness == [19]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


@pytest.fixture
def made(monkeypatch):
    """What runners make, with margins so small that it has something to do in a short run."""
    made: list[PageAhead] = []

    class Noted(PageAhead):
        def __init__(self, **parts):
            super().__init__(**parts)
            made.append(self)

    monkeypatch.setattr(page_ahead, "_STRETCH", 2**14)
    monkeypatch.setattr("quire.runtime.runner.PageAhead", Noted)
    return made


def asked() -> list[Request]:
    return [
        Request(
            id=f"r{i}",
            prompt_token_ids=tuple(range(3 + i, 60 + 9 * i)),
            sampling=SamplingParams(temperature=float(i % 2), max_tokens=12, seed=i),
        )
        for i in range(6)
    ]


@on_linux
def test_an_engine_has_pages_found_and_gives_the_same_tokens(checkpoint, made):
    arm = ("attention=sdpa", "engine.kv_bytes=64MiB")
    expected = results(make_engine(checkpoint, *arm, "executor.prefault=true"), asked())
    assert not made
    engine = make_engine(checkpoint, *arm)
    (pages,) = made
    assert pages._thread.is_alive()
    wait_for(lambda: all(extent.start < extent.found < extent.end for extent in pages._extents))
    assert max(pages._begun) == 0
    check_same(results(engine, asked()), expected)
    assert min(pages._begun) > 0
    assert not pages._thread.is_alive(), "results closes the engine"


@on_linux
def test_an_engine_that_nobody_closed_leaves_no_thread(checkpoint, made):
    engine = make_engine(checkpoint, "attention=sdpa", "engine.kv_bytes=64MiB")
    (pages,) = made
    assert pages._thread.is_alive()
    del engine
    gc.collect()
    pages._thread.join(10)
    assert not pages._thread.is_alive()


def resident(tensor: torch.Tensor) -> int:
    """Bytes of the tensor's pages that are in memory."""
    page = os.sysconf("SC_PAGE_SIZE")
    states = (ctypes.c_ubyte * (tensor.nbytes // page))()
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.mincore(ctypes.c_void_p(tensor.data_ptr()), ctypes.c_size_t(tensor.nbytes), states)
    assert not failed, os.strerror(ctypes.get_errno())
    return sum(state & 1 for state in states) * page
