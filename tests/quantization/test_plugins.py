"""The plugins on whole models, against the same integers multiplied by the reference."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints import VOCABULARY, make_checkpoint
from loading import load
from packed import PackedRun, ReferenceAttention, random_sequences

from quire import LLM, SamplingParams
from quire.config.compose import compose
from quire.errors import MissingCapability, UserError
from quire.interfaces.ops import Ops
from quire.interfaces.quantization import Quantization
from quire.models.model import Model
from quire_kernels import reference
from quire_plugins.quantization.products import TorchInt8Linear
from quire_plugins.quantization.rounding import round_groups, round_rows
from quire_plugins.quantization.w4a16 import W4A16, W4A16Config
from quire_plugins.quantization.w8a8 import W8A8, W8A8Config


class ReferenceQuantization(Quantization):
    """Holds what a plugin would hold, and multiplies plainly. A researcher's file looks like this."""

    def __init__(self, bits: int, skip: tuple[str, ...] = ()) -> None:
        self.skip = skip
        self.names: list[str] = []
        self._bits = bits

    def linear(
        self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None, *, name: str, ops: Ops
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        self.names.append(name)
        if self._bits == 8:
            values, scales = reference.quantise_rows(weight_OI)
            return lambda x: reference.int8_linear(x, values, scales, bias_O).to(x.dtype)
        parts = round_groups(weight_OI, bits=4, group_size=32, symmetric=False)
        return lambda x: reference.groupwise_linear(x, *parts, bias_O, bits=4, group_size=32).to(x.dtype)


def logits(model: Model) -> torch.Tensor:
    sequences = random_sequences((1, 20, 9), vocabulary=VOCABULARY)
    return torch.cat(PackedRun(model, ReferenceAttention(), sequences).finish(16))


@pytest.mark.parametrize("family", ["llama_tied_biased", "qwen3_moe", "gemma3", "phi3"])
def test_w8a8_is_its_reference(family: str, tmp_path: Path) -> None:
    make_checkpoint(family, tmp_path)
    got = logits(load(tmp_path, quantization=W8A8(config=W8A8Config(), device="cpu")))
    expected = logits(load(tmp_path, quantization=ReferenceQuantization(8)))
    # Where a sum falls on the edge between two integers, the order of summing decides.
    assert (got - expected).std() < 0.03 * expected.std()
    assert (logits(load(tmp_path)) - expected).std() < 0.3 * expected.std()


@pytest.mark.parametrize("family", ["llama", "qwen3_moe"])
def test_w4a16_is_its_reference(family: str, tmp_path: Path) -> None:
    make_checkpoint(family, tmp_path)
    plugin = W4A16(config=W4A16Config(group_size=32, skip=[]), device="cpu")
    got = logits(load(tmp_path, quantization=plugin))
    expected = logits(load(tmp_path, quantization=ReferenceQuantization(4)))
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-3)


def test_names_and_skipping(tmp_path: Path) -> None:
    make_checkpoint("qwen3_moe", tmp_path)
    every = ReferenceQuantization(8)
    load(tmp_path, quantization=every)
    kinds = {
        name.removeprefix("layers.1.")
        for name in every.names
        if not name.startswith(("layers.0", "layers.2"))
    }
    assert kinds == {"attention.qkv", "attention.o", "mlp.experts.gate_up", "mlp.experts.down", "head"}
    some = ReferenceQuantization(8, skip=("head", "layers.0.*", "*.down"))
    load(tmp_path, quantization=some)
    assert {name for name in some.names if name.startswith(("head", "layers.0."))} == set()
    assert "layers.1.mlp.experts.down" not in some.names
    assert "layers.1.attention.qkv" in some.names
    with pytest.raises(UserError, match=r"quantization\.skip: heads names no product of this model"):
        load(tmp_path, quantization=ReferenceQuantization(8, skip=("heads", "layers.0.*")))


def test_skipping_all_changes_nothing(tmp_path: Path) -> None:
    make_checkpoint("llama", tmp_path)
    plugin = W8A8(config=W8A8Config(skip=["*"]), device="cpu")
    assert torch.equal(logits(load(tmp_path, quantization=plugin)), logits(load(tmp_path)))


def test_other_architectures_are_refused(tmp_path: Path) -> None:
    make_checkpoint("olmo2", tmp_path)
    with pytest.raises(MissingCapability, match=r"quantization: Olmo2ForCausalLM runs through transformers"):
        load(tmp_path, quantization=W8A8(config=W8A8Config(), device="cpu"))


def test_composition() -> None:
    config = compose(
        ["quantization=w4a16", "quantization.group_size=128", "quantization.skip=[head,layers.0.*]"]
    )
    assert config.quantization == W4A16Config(group_size=128, skip=["head", "layers.0.*"])
    assert compose(["quantization=w8a8"]).quantization == W8A8Config()
    with pytest.raises(UserError, match=r"quantization\.group_size=48: must be one of 32, 64, 128"):
        compose(["quantization=w4a16", "quantization.group_size=48"])


@pytest.mark.parametrize(("plugin", "least"), [("w8a8", 0.9), ("w8a16", 0.95), ("w4a16", 0.6)])
def test_the_demo_model_goes_on_as_in_full_precision(plugin: str, least: float) -> None:
    """Share of greedy tokens, each after the same context, that quantising leaves as they were."""
    prompt = "Once upon a time there was"
    greedy = SamplingParams(temperature=0.0, max_tokens=40, ignore_eos=True)
    with LLM("demo", ["dtype=float32"]) as llm:
        whole = llm.generate([prompt], greedy)[0].samples[0].token_ids
    with LLM("demo", ["dtype=float32"]) as llm:
        encode = llm._run.tokenizer.encode
    contexts = [[*encode(prompt), *whole[:n]] for n in range(len(whole))]
    one = SamplingParams(temperature=0.0, max_tokens=1, ignore_eos=True)
    with LLM("demo", ["dtype=float32", f"quantization={plugin}"]) as llm:
        tokens = [completion.samples[0].token_ids[0] for completion in llm.generate(contexts, one)]
    assert sum(map(int.__eq__, tokens, whole)) >= least * len(whole)


@pytest.mark.parametrize("symmetric", [False, True])
def test_rounding_to_groups(symmetric: bool) -> None:
    weight = torch.randn(5, 80)
    weight[0, :32] = 0
    values, scales, zeros = round_groups(weight, bits=4, group_size=32, symmetric=symmetric)
    assert values.max() <= 15
    columns = torch.arange(80) // 32
    zero = 8.0 if zeros is None else zeros.float()[:, columns]
    back = (values.float() - zero) * scales[:, columns]
    assert ((back - weight).abs() <= 0.501 * scales[:, columns] + 1e-6).float().mean() > (
        0.97 if symmetric else 0.999
    )
    assert (back[0, :32] == 0).all()


def test_torch_products_are_the_reference() -> None:
    """What runs on a GPU, here."""
    x, weight, bias = torch.randn(5, 33), torch.randn(19, 33), torch.randn(19)
    rows = round_rows(weight)
    torch.testing.assert_close(TorchInt8Linear(*rows, bias)(x), reference.int8_linear(x, *rows, bias))
