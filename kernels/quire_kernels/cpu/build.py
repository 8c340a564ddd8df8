"""Compiles the C++ kernels on first use and loads them.

The library is kept under a name that holds a hash of everything it depends on, so that a changed source or
another torch builds anew and an unchanged one loads at once. `$QUIRE_CACHE` says where; the default is
`~/.cache/quire`.
"""

import fcntl
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

SOURCES = Path(__file__).parent / "csrc"
# -fopenmp is for compiling only: given to the linker as well, it could bring a second OpenMP runtime that
# fights torch's own over the cores.
COMPILE_FLAGS = ["-O3", "-std=c++20", "-fPIC", "-fopenmp", "-ffp-contract=fast", "-fno-math-errno", "-w"]
LINK_FLAGS = ["-shared", "-lc10", "-ltorch_cpu"]


class KernelBuildError(RuntimeError):
    """The C++ kernels cannot be built on this machine; the message is one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the CPU kernels cannot be built: {reason}; attention=sdpa ops=torch need no compiler"
        )


@functools.cache
def load_kernels() -> None:
    """Makes `torch.ops.quire_cpu` available, building the library if this is the first time.

    Raises:
        KernelBuildError: there is no compiler, or it failed.
    """
    library = library_path()
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with _locked(library.with_suffix(".lock")):
            if not library.exists():  # another process may have built it meanwhile
                _build(library)
    torch.ops.load_library(str(library))


def library_path() -> Path:
    """Where the library for this torch, these sources and this compiler is, or will be built."""
    user_cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    cache = Path(os.environ.get("QUIRE_CACHE", f"{user_cache}/quire")).expanduser()
    return cache / "kernels" / f"quire_cpu-{_fingerprint()}.so"


def _compiler() -> list[str]:
    """The command, which may be more than a word: CXX="ccache g++"."""
    return shlex.split(os.environ.get("CXX", "c++"))


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for part in (*_compiler(), torch.__version__, platform.machine(), *COMPILE_FLAGS, *LINK_FLAGS):
        digest.update(part.encode() + b"\0")
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the kernel releases the lock of a process that dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(library: Path) -> None:
    compiler = _compiler()
    if shutil.which(compiler[0]) is None:
        raise KernelBuildError(f"no C++ compiler, {compiler[0]!r} was not found (install g++ or set CXX)")
    from torch.utils.cpp_extension import include_paths, library_paths

    logger.info("building the CPU kernels (up to a minute on two CPUs, once)")
    log = library.with_suffix(".log")
    log.unlink(missing_ok=True)
    sources = sorted(SOURCES.glob("*.cpp"), key=_compiles_long, reverse=True)
    includes = [f"-I{path}" for path in include_paths()]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:

        def compile_one(source: Path) -> str:
            built = f"{scratch}/{source.stem}.o"
            _run([*compiler, *COMPILE_FLAGS, abi, *includes, "-c", str(source), "-o", built], log)
            return built

        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            objects = list(pool.map(compile_one, sources))
        linked = f"{scratch}/{library.name}"
        _run(
            [*compiler, *objects, *(f"-L{path}" for path in library_paths()), *LINK_FLAGS, "-o", linked], log
        )
        os.replace(linked, library)


def _compiles_long(source: Path) -> bool:
    return b"<torch/" in source.read_bytes()


def _run(command: list[str], log: Path) -> None:
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode != 0:
        with log.open("a") as file:
            file.write(f"{' '.join(command)}\n{result.stdout}\n")
        raise KernelBuildError(f"{command[0]} failed, its output is in {log}")
