"""A GPU with a name and nothing else: host functions run, on the meta device, up to the launch of a kernel.

A tensor there has a shape and no data. Whoever asks for some, which on a GPU waits for it and cannot be
captured in a CUDA graph, gets an error.
"""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import triton
from triton.backends.compiler import GPUTarget

from quire_kernels.triton import launch
from quire_kernels.triton.launch import ARCHITECTURES, Architecture

FIRST_DEVICE = 1000  # numbers of their own, so that no kernel cache of a real device is touched


def pretend_gpu(
    monkeypatch: pytest.MonkeyPatch, name: str, note: Callable[..., bool] = lambda **_: True
) -> Architecture:
    """Until the test ends Triton takes this architecture for its device. `note` gets what is to be compiled,
    and returns True for it not to be.
    """
    architecture = ARCHITECTURES[name]
    device = FIRST_DEVICE + list(ARCHITECTURES).index(name)
    target = GPUTarget(architecture.backend, architecture.arch, architecture.warp_size)
    driver = SimpleNamespace(
        get_current_device=lambda: device,
        get_current_stream=lambda device: 0,
        get_current_target=lambda: target,
    )
    monkeypatch.setattr(triton.runtime.driver, "_active", driver)
    monkeypatch.setattr(triton.knobs.runtime, "jit_cache_hook", note)
    monkeypatch.setattr(launch, "architecture_of", lambda device: architecture)
    return architecture
