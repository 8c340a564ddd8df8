"""KV memory in 8 bits, end to end: the same tokens whatever happens to the blocks, answers as good as before,
and room for nearly twice the tokens.
"""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import pytest
import torch

from quire.config.compose import compose
from quire.engine.engine import Engine
from quire.engine.request import Request, SamplingParams
from quire.engine.shape import StepShape
from quire.errors import MissingCapability, UserError
from quire.jobs.feed import serve
from quire.registry import load_registry
from quire.run import Run
from quire.text.known_answers import known_answer_tasks
from quire.text.tokenizer import Tokenizer
from quire_plugins.attention.sdpa import SdpaAttention

REGISTRY = load_registry()
LENGTHS = (1, 16, 17, 65, 130, 200)
OUTPUT = 12
TOKEN_BYTES = {"auto": 4 * 32, "int8": 32 + 4, "fp8_e4m3": 32 + 4}
"""Of a key or value of the demo model in float32: its numbers, and its scale."""
KV_DTYPES = pytest.mark.parametrize("kv_dtype", ["int8", "fp8_e4m3"])
ATTENTIONS = pytest.mark.parametrize("attention", ["paged", "sdpa"])


@dataclass(frozen=True)
class Arm:
    """Overrides of one way to serve, and what must have happened for the test to have tested it."""

    overrides: tuple[str, ...]
    kv_tokens: int = 4096
    repeat: bool = False
    preempts: bool = False
    hits: bool = False


ARMS = {
    "chunks of 7": Arm(("scheduler=sarathi", "scheduler.chunk_tokens=7")),
    "preemption": Arm(
        ("allocator.prefix_cache=false", "engine.max_step_tokens=64"), kv_tokens=256, preempts=True
    ),
    "swap": Arm(
        (
            "allocator.prefix_cache=false",
            "allocator.host_bytes=1MiB",
            "engine.preemption=swap",
            "engine.max_step_tokens=64",
        ),
        kv_tokens=256,
        preempts=True,
    ),
    "prefix hits": Arm((), repeat=True, hits=True),
    "prefixes in host memory": Arm(("allocator.host_bytes=4MiB",), kv_tokens=256, repeat=True, hits=True),
    "radix, parts of pages": Arm(
        ("allocator=radix", "scheduler=sarathi", "scheduler.chunk_tokens=33"), repeat=True, hits=True
    ),
}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(tmp_path, *overrides: str) -> Run:
    options = ["device=cpu", "dtype=float32", "engine.block_size=16", "engine.threads=1", *overrides]
    return Run(config=compose(options, REGISTRY), registry=REGISTRY, directory=tmp_path)


def make_engine(tmp_path, attention: str, kv_dtype: str, arm: Arm) -> Engine:
    kv_bytes = arm.kv_tokens * 4 * 2 * 4 * TOKEN_BYTES[kv_dtype]  # layers, K and V, heads
    return run(
        tmp_path,
        f"attention={attention}",
        f"engine.kv_dtype={kv_dtype}",
        f"engine.kv_bytes={kv_bytes}",
        "engine.max_sequences=8",
        *arm.overrides,
    ).engine(with_text=False)


def prompts() -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(7)
    return [tuple(torch.randint(3, 2048, (length,), generator=generator).tolist()) for length in LENGTHS]


def outputs(engine: Engine, requests: Sequence[Request]) -> tuple[dict[tuple[str, int], list[int]], int, int]:
    """Tokens of each sample, preemptions, cached tokens."""
    tokens: dict[tuple[str, int], list[int]] = {}
    preemptions = cached = 0
    for step in serve(engine, requests):
        engine.allocator.check_integrity()
        for output in step:
            assert output.error is None, output.error
            tokens.setdefault((output.request_id, output.index), []).extend(output.token_ids)
            if output.record is not None:
                preemptions += output.record.num_preemptions
                cached += output.record.num_cached_tokens
    return tokens, preemptions, cached


def greedy(engine: Engine, name: str) -> tuple[list[list[int]], int, int]:
    sampling = SamplingParams(temperature=0, max_tokens=OUTPUT, ignore_eos=True)
    requests = [
        Request(id=f"{name}{index}", prompt_token_ids=prompt, sampling=sampling)
        for index, prompt in enumerate(prompts())
    ]
    tokens, preemptions, cached = outputs(engine, requests)
    return [tokens[request.id, 0] for request in requests], preemptions, cached


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Greedy tokens by backend and type, each sequence alone."""
    made: dict[tuple[str, str], list[list[int]]] = {}

    def of(attention: str, kv_dtype: str) -> list[list[int]]:
        if (attention, kv_dtype) not in made:
            arm = Arm(("engine.max_sequences=1", "allocator.prefix_cache=false"))
            directory = tmp_path_factory.mktemp("undisturbed")
            with closing(make_engine(directory, attention, kv_dtype, arm)) as engine:
                made[attention, kv_dtype] = greedy(engine, "")[0]
        return made[attention, kv_dtype]

    return of


@ATTENTIONS
@KV_DTYPES
@pytest.mark.parametrize("arm", ARMS.values(), ids=ARMS.keys())
def test_tokens_do_not_depend_on_what_happens_to_the_blocks(tmp_path, undisturbed, attention, kv_dtype, arm):
    expected = undisturbed(attention, kv_dtype)
    with closing(make_engine(tmp_path, attention, kv_dtype, arm)) as engine:
        tokens, preemptions, cached = greedy(engine, "first-")
        assert tokens == expected
        if arm.repeat:
            tokens, _, cached = greedy(engine, "second-")
            assert tokens == expected
    assert not arm.preempts or preemptions > 0
    assert not arm.hits or cached > 0


@KV_DTYPES
def test_samples_that_fork_are_those_that_do_not(tmp_path, kv_dtype):
    """A fork copies a block that is half full: its scales too."""
    sampling = SamplingParams(temperature=1.0, seed=3, n=3, max_tokens=OUTPUT, ignore_eos=True)
    request = Request(id="a", prompt_token_ids=prompts()[4], sampling=sampling)
    with closing(make_engine(tmp_path, "paged", kv_dtype, Arm(()))) as engine:
        forked, _, _ = outputs(engine, [request])
    assert len({tuple(tokens) for tokens in forked.values()}) == 3
    arm = Arm(("engine.max_sequences=1", "allocator=contiguous"))
    with closing(make_engine(tmp_path, "paged", kv_dtype, arm)) as engine:
        assert outputs(engine, [request])[0] == forked


@KV_DTYPES
def test_answers_are_as_good_as_without(tmp_path, kv_dtype):
    tasks = known_answer_tasks(2_000_000, 40)
    solved = {}
    for kept in ("auto", kv_dtype):
        built = run(tmp_path, "dtype=bfloat16", f"engine.kv_dtype={kept}", "engine.kv_bytes=64MiB")
        tokenizer = Tokenizer.load(built.checkpoint.path)
        sampling = SamplingParams(temperature=0, max_tokens=64)
        requests = [
            Request(id=str(i), prompt_token_ids=tuple(tokenizer.encode(task.prompt)), sampling=sampling)
            for i, task in enumerate(tasks)
        ]
        with closing(built.engine()) as engine:
            tokens, _, _ = outputs(engine, requests)
        solved[kept] = sum(
            task.solved_by(tokenizer.decode([t for t in tokens[str(i), 0] if t != 0]))
            for i, task in enumerate(tasks)
        )
    assert solved["auto"] >= 36
    assert solved[kv_dtype] >= solved["auto"] - 2


@ATTENTIONS
@KV_DTYPES
@pytest.mark.parametrize("executor", ["local", "simulated"])
def test_the_same_bytes_hold_more_tokens(tmp_path, attention, kv_dtype, executor):
    """Heads of 32 numbers: 64 bytes in bfloat16, 32 and a scale of 4 in 8 bits."""
    overrides = ()
    if executor == "simulated":
        cost = {"base_seconds": 0.01, **dict.fromkeys(StepShape.__dataclass_fields__, 0.0)}
        (tmp_path / "cost.json").write_text(json.dumps({"cost_model": "linear", "parameters": cost}))
        overrides = ("executor=simulated", f"cost_model.path={tmp_path / 'cost.json'}")
    blocks = {}
    for kept in ("auto", kv_dtype):
        built = run(
            tmp_path,
            "dtype=bfloat16",
            "engine.kv_bytes=1MiB",
            f"attention={attention}",
            f"engine.kv_dtype={kept}",
            *overrides,
        )
        with closing(built.engine(with_text=False)) as engine:
            blocks[kept] = engine.allocator.stats().total
    bytes_of_block = 4 * 2 * 4 * 16
    assert blocks == {"auto": 2**20 // (bytes_of_block * 64), kv_dtype: 2**20 // (bytes_of_block * 36)}


@pytest.mark.parametrize("overrides", [(), ("executor=simulated",)], ids=["local", "simulated"])
def test_a_backend_without_it_names_those_that_have_it(monkeypatch, tmp_path, overrides):
    monkeypatch.setattr(SdpaAttention, "kv_dtypes", frozenset({"auto"}))
    built = run(tmp_path, "attention=sdpa", "engine.kv_dtype=int8", "engine.kv_bytes=1MiB", *overrides)
    with pytest.raises(
        MissingCapability,
        match=r"engine\.kv_dtype=int8: attention=sdpa keeps auto; offered by attention=paged$",
    ):
        built.engine(with_text=False)


def test_it_is_an_option_of_the_engine():
    with pytest.raises(UserError, match=r"Key 'kv_dtype' .*: it is engine\.kv_dtype$"):
        compose(["allocator.kv_dtype=int8"], REGISTRY)
    with pytest.raises(UserError, match=r"kv_dtype.*'int4'.*\[auto, int8, fp8_e4m3\]"):
        compose(["engine.kv_dtype=int4"], REGISTRY)
