"""Captures launches as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch


class CudaCapture:
    """Makes graphs that share one pool of memory: they never run at the same time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: Callable[[], torch.Tensor]) -> tuple[Callable[[], object], torch.Tensor]:
        """Runs `compute` twice: first for what only a first run does, to compile kernels and find algorithms,
        which a capture would not survive.
        """
        compute()
        torch.cuda.current_stream().synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            output = compute()
        return graph.replay, output
