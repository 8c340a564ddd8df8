"""KV memory of models with multi-head latent attention: what a token takes, and what is refused by name."""

import json
import statistics
from contextlib import closing
from pathlib import Path

import pytest
from checkpoints import make_checkpoint

from quire.config.compose import compose
from quire.engine.engine import Engine
from quire.engine.request import Request, SamplingParams
from quire.engine.shape import StepShape
from quire.errors import MissingCapability
from quire.jobs.feed import serve
from quire.registry import load_registry
from quire.run import Run

REGISTRY = load_registry()
TOKEN_BYTES = 3 * (32 + 16) * 4
"""In three layers, a latent of 32 numbers and a key of 16, in float32."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("deepseek")
    make_checkpoint("deepseek_v3", directory)
    return directory


def engine_of(model: Path, *overrides: str) -> Engine:
    fixed = [f"model={model}", "device=cpu", "dtype=float32", "engine.threads=1", "engine.kv_bytes=1MiB"]
    config = compose([*fixed, *overrides], REGISTRY)
    return Run(config=config, registry=REGISTRY, directory=model).engine(with_text=False)


def block_bytes(engine: Engine, block_size: int) -> tuple[int, ...]:
    return engine._executor.kv_block_bytes(block_size)


@pytest.mark.parametrize("attention", ["paged", "sdpa"])
def test_a_token_takes_one_latent_and_one_rotated_key_a_layer(model: Path, attention: str) -> None:
    with closing(engine_of(model, f"attention={attention}")) as engine:
        assert block_bytes(engine, 32) == (32 * TOKEN_BYTES,)


def test_the_simulator_counts_the_same(model: Path, tmp_path: Path) -> None:
    calibration = tmp_path / "cost.json"
    parameters = dict.fromkeys(("base_seconds", *StepShape.__dataclass_fields__), 1e-3)
    calibration.write_text(json.dumps({"cost_model": "linear", "parameters": parameters}))
    with closing(engine_of(model, "executor=simulated", f"cost_model.path={calibration}")) as engine:
        assert block_bytes(engine, 32) == (32 * TOKEN_BYTES,)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("attention=quest", "attention: QuestAttention lacks latents, which DeepseekV3ForCausalLM needs"),
        (
            "engine.kv_dtype=int8",
            "engine.kv_dtype=int8: PagedAttention keeps the latents of this model as auto",
        ),
    ],
)
def test_what_latents_lack_is_named(model: Path, override: str, message: str) -> None:
    with pytest.raises(MissingCapability, match=message):
        engine_of(model, override)


def test_products_are_quantised_around_the_latents(model: Path) -> None:
    """The projection of latents to keys and values stays as it is, and the others are near what they were."""
    prompt = tuple(range(3, 60))

    def logprobs(*overrides: str) -> list[float]:
        sampling = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0)
        request = Request(id="r", prompt_token_ids=prompt, sampling=sampling)
        with closing(engine_of(model, *overrides)) as engine:
            outputs = [output for news in serve(engine, [request]) for output in news]
        return [each.logprob for output in outputs for each in output.prompt_logprobs if each is not None]

    exact, rounded = logprobs(), logprobs("quantization=w8a16")
    assert len(exact) == len(prompt) - 1
    assert exact != rounded
    # Some tokens go to another expert, so a few are far off.
    assert statistics.median(abs(a - b) for a, b in zip(exact, rounded, strict=True)) < 0.1
