"""The whole path of a GPU on a CPU: Triton's kernels by its interpreter, steps launched ahead, decoding steps
from graphs. The tokens are those of the plain engine.
"""

from functools import partial

import pytest
import torch
from checkpoints import make_checkpoint
from deferred import AheadExecutor, Capture, check_same, make_engine, results

from quire.engine.request import Request, SamplingParams
from quire_plugins.attention.paged import PagedAttention
from quire_plugins.ops.native import NativeOps


def on_gpu(plugin, *, config, device):
    """What a GPU would get, whatever the device."""
    del device
    return plugin(config=config, device="cuda")


# Rows that fill up a graph hold whatever memory held; numpy says so where the interpreter computes with it.
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize("family", ["qwen3", "gemma3"])
def test_tokens_are_those_of_the_plain_engine(tmp_path, family):
    make_checkpoint(family, tmp_path)
    torch.set_num_threads(1)
    requests = [
        Request(
            id=f"r{i}",
            prompt_token_ids=tuple(range(3 + i, 3 + i + length)),
            sampling=SamplingParams(temperature=float(i % 2), seed=i, max_tokens=tokens),
        )
        for i, (length, tokens) in enumerate([(18, 5), (2, 3), (5, 7)])
    ]
    expected = results(make_engine(tmp_path, "attention=sdpa", "ops=torch"), requests)
    capture = Capture()
    replaced = {
        "executor": partial(AheadExecutor, capture=capture),
        "attention": partial(on_gpu, PagedAttention),
        "ops": partial(on_gpu, NativeOps),
    }
    engine = make_engine(tmp_path, "engine.block_size=16", "engine.kv_bytes=1MiB", replaced=replaced)
    check_same(results(engine, requests), expected)
    # Three sequences in a rung for four, then two, then one: each captured once.
    assert capture.captured == 3
    assert capture.replayed == 6
