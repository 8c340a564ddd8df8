"""The whole path of a GPU on a CPU: Triton's kernels by its interpreter, steps launched ahead, decoding steps
from graphs. The tokens are those of the plain engine.
"""

from functools import partial

import pytest
import torch
from checkpoints import make_checkpoint
from deferred import AheadExecutor, Capture, check_same, make_engine, results

from quire.engine.request import Request, SamplingParams
from quire.models.experts import Experts
from quire_plugins.attention.paged import PagedAttention
from quire_plugins.attention.quest import QuestAttention
from quire_plugins.ops.native import NativeOps


def on_gpu(plugin, *, config, device):
    """What a GPU would get, whatever the device."""
    del device
    return plugin(config=config, device="cuda")


def engine_on_gpu(checkpoint, *overrides, attention=PagedAttention):
    """An engine that computes as on a GPU, and what captures its graphs."""
    capture = Capture()
    replaced = {
        "executor": partial(AheadExecutor, capture=capture),
        "attention": partial(on_gpu, attention),
        "ops": partial(on_gpu, NativeOps),
    }
    small = ("engine.block_size=16", "engine.kv_bytes=1MiB")
    return make_engine(checkpoint, *small, *overrides, replaced=replaced), capture


# Rows that fill up a graph hold whatever memory held; numpy says so where the interpreter computes with it.
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize(
    ("family", "kv_dtype"),
    [
        *((family, "auto") for family in ("qwen3", "gemma3", "mixtral", "qwen3_moe", "deepseek_v3", "bloom")),
        ("qwen3", "int8"),
        ("llama", "fp8_e4m3"),
    ],
)
def test_tokens_are_those_of_the_plain_engine(tmp_path, family, kv_dtype):
    make_checkpoint(family, tmp_path)
    torch.set_num_threads(1)
    requests = [
        Request(
            id=f"r{i}",
            prompt_token_ids=tuple(range(3 + i, 3 + i + length)),
            sampling=SamplingParams(temperature=float(i % 2), seed=i, max_tokens=tokens, ignore_eos=True),
        )
        for i, (length, tokens) in enumerate([(18, 5), (2, 3), (5, 7)])
    ]
    kept = f"engine.kv_dtype={kv_dtype}"
    expected = results(make_engine(tmp_path, "attention=sdpa", "ops=torch", kept), requests)
    engine, capture = engine_on_gpu(tmp_path, kept)
    check_same(results(engine, requests), expected)
    # Three sequences in a rung for four, then two, then one: each captured once.
    assert capture.captured == 3
    assert capture.replayed == 6


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
def test_decoding_tokens_choose_the_pages_that_the_plain_engine_chooses(tmp_path):
    make_checkpoint("qwen3", tmp_path)
    torch.set_num_threads(1)
    requests = [
        Request(
            id=f"r{i}",
            prompt_token_ids=tuple(3 + (7 * i + 5 * j) % 40 for j in range(length)),
            sampling=SamplingParams(temperature=0.0, max_tokens=3, ignore_eos=True),
        )
        for i, length in enumerate((50, 20, 3))
    ]
    quest = ("attention=quest", "attention.pages=2", "attention.dense_layers=1")
    expected = results(make_engine(tmp_path, "ops=torch", "engine.block_size=16", *quest), requests)
    engine, capture = engine_on_gpu(tmp_path, *quest, attention=QuestAttention)
    check_same(results(engine, requests), expected)
    assert capture.replayed == 2


def test_rows_that_fill_up_a_graph_go_to_the_experts_of_one_token(tmp_path, monkeypatch):
    """And so cost little more, whatever lies in memory, which is noise here."""
    make_checkpoint("mixtral", tmp_path)
    torch.set_num_threads(1)
    sequences, rung = 5, 8
    requests = [
        Request(
            id=f"r{i}",
            prompt_token_ids=(3 + i, 4, 5),
            sampling=SamplingParams(temperature=0.0, max_tokens=2, ignore_eos=True),
        )
        for i in range(sequences)
    ]
    expected = results(make_engine(tmp_path, "attention=sdpa", "ops=torch"), requests)
    compute, new_empty = Experts.__call__, torch.Tensor.new_empty
    filling = []

    def noticing(self, x_TE, chosen_Tk, shares_Tk):
        if len(x_TE) == rung:
            filling.append(chosen_Tk[sequences:])
        return compute(self, x_TE, chosen_Tk, shares_Tk)

    def noisy(self, *shape, **options):
        made = new_empty(self, *shape, **options)
        return made.normal_() if made.is_floating_point() else made

    monkeypatch.setattr(Experts, "__call__", noticing)
    monkeypatch.setattr(torch.Tensor, "new_empty", noisy)
    engine, capture = engine_on_gpu(tmp_path)
    check_same(results(engine, requests), expected)
    assert capture.replayed == 1
    assert len(filling) == 2 * 3  # as it is captured and as it is replayed, in every layer
    assert all((chosen_Fk == chosen_Fk[0]).all() for chosen_Fk in filling)
