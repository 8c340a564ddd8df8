from types import SimpleNamespace

import pytest
import torch

from quire.errors import MissingCapability
from quire.interfaces import AttentionBackend, KVGeometry
from quire.testing import AttentionSuite
from quire_plugins.attention.paged import PagedAttention, PagedConfig


class TestPaged(AttentionSuite):
    def make(self) -> AttentionBackend:
        return PagedAttention(config=PagedConfig(), device=self.device)


def test_a_gpu_that_the_kernels_do_not_run_on_is_refused_at_start(monkeypatch):
    from quire_kernels.triton.launch import architecture_of

    architecture_of.cache_clear()
    old = SimpleNamespace(major=7, minor=5)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: old)
    with pytest.raises(MissingCapability, match=r"attention=paged: GPU compute capability 7.5 is too old"):
        PagedAttention(config=PagedConfig(), device="cuda")


def test_a_head_that_the_kernels_cannot_hold_is_refused_at_start():
    backend = PagedAttention(config=PagedConfig(), device="cuda")
    geometry = KVGeometry(num_blocks=4, kv_heads=2, block_size=16, head_dim=320, dtype=torch.float16)
    with pytest.raises(MissingCapability, match=r"head_dim is 320; .* up to 256; attention=sdpa"):
        backend.kv_cache_spec(geometry)


def test_latents_that_the_kernels_cannot_hold_are_refused_at_start():
    backend = PagedAttention(config=PagedConfig(), device="cuda")
    geometry = KVGeometry(
        num_blocks=4, kv_heads=1, block_size=16, head_dim=1088, dtype=torch.float16, latent_dim=1024
    )
    with pytest.raises(MissingCapability, match=r"latent_dim is 1024; .* 1 to 512; attention=sdpa"):
        backend.latent_cache_spec(geometry)
