"""Tensor parallelism between processes, over gloo: the tokens of one, whatever happens to the others."""

import os
import signal
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from quire.config.compose import compose
from quire.engine.engine import Engine
from quire.engine.request import Request, SamplingParams
from quire.errors import UserError
from quire.interfaces.executor import ExecutorLost
from quire.registry import load_registry
from quire.run import Run

PROMPTS = [[(7 * index + 3 * i) % 101 for i in range(5 + 9 * index)] for index in range(6)]
OUTPUT = 24


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=101,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.2,
        eos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


def make_engine(model: Path, *overrides: str) -> Engine:
    registry = load_registry()
    fixed = [f"model={model}", "device=cpu", "dtype=float32", "engine.kv_bytes=4MiB", "engine.threads=2"]
    run = Run(config=compose([*fixed, *overrides], registry), registry=registry, directory=Path())
    return run.engine(with_text=False)


def tokens(engine: Engine, *, temperature: float) -> list[tuple[int, ...]]:
    for index, prompt in enumerate(PROMPTS):
        sampling = SamplingParams(temperature=temperature, max_tokens=OUTPUT, seed=index)
        engine.add(Request(id=str(index), prompt_token_ids=tuple(prompt), sampling=sampling))
    got: dict[str, tuple[int, ...]] = {}
    while engine.has_work:
        for output in engine.step():
            assert output.error is None, output.error
            got[output.request_id] = got.get(output.request_id, ()) + output.token_ids
    return [got[str(index)] for index in range(len(PROMPTS))]


def test_two_processes_make_the_tokens_of_one(model: Path) -> None:
    """Greedy and sampled, in chunks, with a batch that changes and more requests than slots."""
    options = ["engine.max_step_tokens=40", "engine.max_sequences=4"]
    alone = make_engine(model, *options)
    try:
        expected = [tokens(alone, temperature=temperature) for temperature in (0.0, 0.8)]
    finally:
        alone.close()
    together = make_engine(model, *options, "executor=tensor_parallel", "executor.timeout_s=60")
    try:
        assert [tokens(together, temperature=temperature) for temperature in (0.0, 0.8)] == expected
    finally:
        together.close()


@pytest.mark.slow
def test_a_process_that_dies_ends_the_engine_with_its_name(model: Path) -> None:
    engine = make_engine(model, "executor=tensor_parallel", "executor.timeout_s=60")
    try:
        tokens(engine, temperature=0.0)
        (other,) = engine._executor._others
        os.kill(other.pid, signal.SIGKILL)
        with pytest.raises(ExecutorLost, match=r"^rank 1 of 2 is gone: killed by SIGKILL$"):
            tokens(engine, temperature=0.0)
    finally:
        engine.close()
    again = make_engine(model, "executor=tensor_parallel", "executor.ranks=1")
    try:
        assert all(len(each) == OUTPUT for each in tokens(again, temperature=0.0))
    finally:
        again.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("executor.ranks=4", "^executor.ranks=4: must divide this model's num_key_value_heads=2$"),
        ("attention=sdpa", None),
    ],
)
def test_what_cannot_be_divided_is_said_and_leaves_nothing_behind(
    model: Path, override: str, message: str | None
) -> None:
    options = ["executor=tensor_parallel", "executor.timeout_s=60"]
    if message is not None:
        with pytest.raises(UserError, match=message):
            make_engine(model, *options, override)
        override = "attention=paged"
    engine = make_engine(model, *options, override)
    try:
        assert all(len(each) == OUTPUT for each in tokens(engine, temperature=0.0))
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("executor.ranks=0", "^executor.ranks=0: must be at least 1$"),
        ("executor.timeout_s=0", "^executor.timeout_s=0.0: must be a finite number of seconds > 0$"),
        ("executor.cuda_graphs=true", "^executor.cuda_graphs=true: must be false"),
    ],
)
def test_options_that_make_no_sense(model: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_engine(model, "executor=tensor_parallel", override)
