"""Greedy tokens are transformers' own, whatever the policy, the batch, the chunks and the memory.

One oracle run of transformers' `generate` for each family, alone and unpadded; then every arm serves all the
prompts together and must bring the same tokens, and the same log probabilities within 1e-4.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from checkpoints import FOREIGN, MAX_TOKENS, VOCABULARY, make_checkpoint
from transformers import AutoConfig, AutoModelForCausalLM

from quire.config.compose import compose
from quire.engine.engine import Engine
from quire.engine.request import Request, SamplingParams
from quire.jobs.feed import serve
from quire.models.checkpoint import open_checkpoint
from quire.registry import load_registry
from quire.run import Run

OUTPUT = 64
PROMPT_LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65, 130, 300)
FAMILIES = (
    "demo",
    "llama",
    "llama_llama3",
    "llama_yarn",
    "mistral",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "gemma2",
    "gemma3",
    "phi3",
    "mixtral",
    "bloom",
    "mpt",
    "falcon",
    "deepseek_v2",
    "deepseek_v3",
)
WINDOWED = ("mistral", "phi3")
"""Families of which every layer has a window."""


@dataclass(frozen=True)
class Arm:
    """Overrides of one way to serve, and what must have happened for the test to have tested it."""

    overrides: tuple[str, ...]
    kv_tokens: int | None = None
    kv_tokens_of_windows: int | None = None
    """The same for families in which every layer has a window, and so holds little of a sequence."""
    repeat: bool = False
    preempts: bool = False
    hits: bool = False


ARMS = {
    "defaults": Arm(()),
    "no overlap": Arm(("engine.overlap=false",)),
    "sarathi, chunks of 7": Arm(("scheduler=sarathi", "scheduler.chunk_tokens=7", "engine.block_size=16")),
    "a token a step": Arm(("engine.max_step_tokens=1",)),
    "chunks of 512, prefill first": Arm(("scheduler=prefill_first", "engine.max_step_tokens=512")),
    "static, contiguous": Arm(("scheduler=static", "scheduler.batch_size=4", "allocator=contiguous")),
    "preemption": Arm(
        ("engine.block_size=16", "allocator.prefix_cache=false", "engine.max_step_tokens=64"),
        kv_tokens=400,
        kv_tokens_of_windows=160,
        preempts=True,
    ),
    "preemption, contiguous": Arm(
        (
            "allocator=contiguous",
            "allocator.reserve=fixed",
            "allocator.reserve_tokens=8",
            "engine.block_size=16",
        ),
        kv_tokens=500,
        preempts=True,
    ),
    "swap": Arm(
        (
            "engine.block_size=16",
            "allocator.prefix_cache=false",
            "allocator.host_bytes=1MiB",
            "engine.preemption=swap",
            "engine.max_step_tokens=64",
        ),
        kv_tokens=400,
        kv_tokens_of_windows=160,
        preempts=True,
    ),
    "prefixes in host memory": Arm(
        ("engine.block_size=16", "allocator.host_bytes=4MiB", "engine.preemption=swap"),
        kv_tokens=500,
        repeat=True,
        hits=True,
    ),
    "radix, prefix hits": Arm(
        ("allocator=radix", "engine.block_size=16", "scheduler=sarathi", "scheduler.chunk_tokens=33"),
        repeat=True,
        hits=True,
    ),
    "radix, pages in host memory": Arm(
        (
            "allocator=radix",
            "engine.block_size=16",
            "allocator.host_bytes=4MiB",
            "engine.preemption=swap",
            "engine.max_step_tokens=64",
        ),
        kv_tokens=400,
        repeat=True,
        preempts=True,
        hits=True,
    ),
    "prefix hits": Arm(("engine.block_size=16",), repeat=True, hits=True),
    "sdpa": Arm(("attention=sdpa", "ops=torch")),
    "sdpa, sarathi, prefix hits": Arm(
        ("attention=sdpa", "ops=torch", "scheduler=sarathi", "scheduler.chunk_tokens=33"),
        repeat=True,
        hits=True,
    ),
}


@dataclass(frozen=True)
class Expected:
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]


@pytest.fixture(scope="module")
def registry():
    return load_registry()


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    """Checkpoint and expected outputs of a family; made once."""

    @cache
    def of(family: str) -> tuple[Path, tuple[tuple[int, ...], ...], tuple[Expected, ...]]:
        torch.set_num_threads(1)  # for models this small a second thread costs more than it brings
        if family == "demo":
            path = open_checkpoint("demo").path
            model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        else:
            path = tmp_path_factory.mktemp(family)
            model = make_checkpoint(family, path)
        prompts = make_prompts()
        return path, prompts, tuple(generate(model, prompt) for prompt in prompts)

    return of


def make_prompts() -> tuple[tuple[int, ...], ...]:
    generator = torch.Generator().manual_seed(7)
    return tuple(
        tuple(torch.randint(3, VOCABULARY, (length,), generator=generator).tolist())
        for length in PROMPT_LENGTHS
    )


def generate(model, prompt: tuple[int, ...]) -> Expected:
    with torch.inference_mode():
        made = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=OUTPUT,
            min_new_tokens=OUTPUT,
            suppress_tokens=None,
            eos_token_id=None,
            output_logits=True,
            return_dict_in_generate=True,
        )
    tokens = made.sequences[0, len(prompt) :].tolist()
    logprobs = torch.stack(made.logits)[:, 0].float().log_softmax(-1)
    return Expected(tuple(tokens), tuple(logprobs[range(len(tokens)), tokens].tolist()))


def bytes_for(path: Path, tokens: int) -> int:
    config = AutoConfig.from_pretrained(path)  # has the same names for every family's fields
    if hasattr(config, "kv_lora_rank"):
        return tokens * config.num_hidden_layers * (config.kv_lora_rank + config.qk_rope_head_dim) * 4
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    kv_heads = 1 if getattr(config, "multi_query", False) else getattr(config, "num_key_value_heads", heads)
    return tokens * config.num_hidden_layers * 2 * kv_heads * head_dim * 4


def make_engine(registry, path: Path, family: str, arm: Arm) -> Engine:
    overrides = [
        f"model={path}",
        "dtype=float32",
        "device=cpu",
        "engine.max_sequences=8",
        "engine.threads=1",
        *arm.overrides,
    ]
    kv_tokens = arm.kv_tokens
    if arm.kv_tokens_of_windows is not None and family in WINDOWED:
        kv_tokens = arm.kv_tokens_of_windows
    if kv_tokens is not None:
        overrides.append(f"engine.kv_bytes={bytes_for(path, kv_tokens)}")
    config = compose(overrides, registry)
    return Run(config=config, registry=registry, directory=path).engine(with_text=False)


def check(engine: Engine, prompts, expected, *, prefix: str) -> tuple[int, int]:
    """Serve all prompts at once; compare; return preemptions and cached tokens."""
    requests = [
        Request(
            id=f"{prefix}{index}",
            prompt_token_ids=prompt,
            sampling=SamplingParams(temperature=0, max_tokens=OUTPUT, ignore_eos=True, logprobs=0),
        )
        for index, prompt in enumerate(prompts)
    ]
    tokens: dict[str, list[int]] = {request.id: [] for request in requests}
    logprobs: dict[str, list[float]] = {request.id: [] for request in requests}
    preemptions = cached = 0
    for outputs in serve(engine, requests):
        engine.allocator.check_integrity()
        for output in outputs:
            assert output.error is None, output.error
            tokens[output.request_id] += output.token_ids
            logprobs[output.request_id] += [each.logprob for each in output.logprobs]
            if output.record is not None:
                preemptions += output.record.num_preemptions
                cached += output.record.num_cached_tokens
    for request, want in zip(requests, expected, strict=True):
        assert tokens[request.id] == list(want.tokens), f"prompt of {len(request.prompt_token_ids)} tokens"
        assert logprobs[request.id] == pytest.approx(want.logprobs, abs=1e-4)
    assert engine.allocator.stats().used == 0
    return preemptions, cached


VARIATIONS = {"llama_llama3", "llama_yarn", "mistral", "mixtral", "bloom", "mpt", "falcon", "deepseek_v2"}
"""Of a family that is here as well, in what no scheduler or allocator sees: all arms of these take time."""


def _cases():
    for family in FAMILIES:
        for name, arm in ARMS.items():
            slow = family in VARIATIONS and name != "defaults"
            yield pytest.param(family, arm, id=f"{family}-{name}", marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize(("family", "arm"), list(_cases()))
def test_greedy_tokens_are_those_of_transformers(registry, oracle, family, arm):
    path, prompts, expected = oracle(family)
    assert max(PROMPT_LENGTHS) + OUTPUT <= MAX_TOKENS
    engine = make_engine(registry, path, family, arm)
    try:
        preemptions, cached = check(engine, prompts, expected, prefix="first-")
        if arm.repeat:
            _, cached = check(engine, prompts, expected, prefix="second-")
    finally:
        engine.close()
    assert not arm.preempts or preemptions > 0
    assert not arm.hits or cached > 0


@pytest.mark.parametrize("attention", ["paged", "sdpa"])
@pytest.mark.parametrize("family", ["gpt2", "olmo2"])
def test_models_that_run_through_transformers(registry, oracle, family, attention):
    assert family in FOREIGN
    path, prompts, expected = oracle(family)
    engine = make_engine(registry, path, family, Arm((f"attention={attention}", "scheduler=sarathi")))
    try:
        check(engine, prompts, expected, prefix="")
    finally:
        engine.close()
