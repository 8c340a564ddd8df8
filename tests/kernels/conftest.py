"""What the tests of the C++ kernels share: each instruction set in turn, and one thread."""

import pytest
import torch

from quire_kernels import cpu


@pytest.fixture(params=["avx512_bf16", "avx512", "avx2", "baseline"])
def isa(request):
    cpu.load_kernels()
    supported = torch.ops.quire_cpu.isas()
    if request.param not in supported:
        pytest.skip(f"this machine has no {request.param}")
    torch.ops.quire_cpu.use_isa(request.param)
    yield request.param
    torch.ops.quire_cpu.use_isa(supported[0])


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
