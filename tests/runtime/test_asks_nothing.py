"""A decoding step on a GPU, from its plan to the drawn tokens, on a device that has no data to give: nothing
in it may ask for some, or hang on some. What a CUDA graph is to repeat must be so, and so must a step that is
launched before the tokens of the one before are known.
"""

import importlib.util

import pytest
import torch

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

from checkpoints import make_checkpoint
from deferred import Capture
from loading import ARCHITECTURES
from pretended_gpu import pretend_gpu

from quire.engine.plan import Newcomer, Row, StepPlan
from quire.engine.request import SamplingParams
from quire.engine.shape import StepShape
from quire.interfaces.allocator import KVLayout
from quire.models.build import load_model
from quire.models.kv_groups import kv_groups
from quire.models.model import Model
from quire.runtime.readback import Readback
from quire.runtime.runner import Runner
from quire_plugins.attention.paged import PagedAttention, PagedConfig
from quire_plugins.attention.quest import QuestAttention, QuestConfig
from quire_plugins.ops.native import NativeOps, NativeOpsConfig
from quire_plugins.ops.torch_ops import TorchOps, TorchOpsConfig
from quire_plugins.quantization.fp8 import Fp8, Fp8Config
from quire_plugins.quantization.none import NoQuantization, NoQuantizationConfig
from quire_plugins.quantization.w4a16 import W4A16, W4A16Config
from quire_plugins.quantization.w8a8 import W8A8, W8A8Config
from quire_plugins.quantization.w8a16 import W8A16, W8A16Config
from quire_plugins.samplers.standard import StandardSampler, StandardSamplerConfig

META = torch.device("meta")
MAX_TOKENS, BLOCK = 64, 16
LENGTHS = (5, 17, 3)
PAGED = (PagedAttention, PagedConfig())
QUANTIZATIONS = {
    "none": (NoQuantization, NoQuantizationConfig()),
    "w4a16": (W4A16, W4A16Config(group_size=32)),
    "w8a16": (W8A16, W8A16Config(group_size=32)),
    "w8a8": (W8A8, W8A8Config()),
    "fp8": (Fp8, Fp8Config()),
}


@pytest.fixture(autouse=True)
def _gpu(monkeypatch):
    pretend_gpu(monkeypatch, "sm_90")


def on_meta(plugin, config):
    """What a GPU gets, for tensors without data."""
    made = plugin(config=config, device="cuda")
    made.devices = frozenset({"meta"})
    return made


def load_on_meta(
    directory, quantization: str, ops=NativeOps, ops_config=NativeOpsConfig, attention=PAGED
) -> Model:
    return load_model(
        str(directory),
        architectures=ARCHITECTURES,
        attention=on_meta(*attention),
        ops=on_meta(ops, ops_config()),
        quantization=on_meta(*QUANTIZATIONS[quantization]),
        device="meta",
        max_tokens=MAX_TOKENS,
    )


def make_runner(model: Model, capture: Capture, attention=PAGED) -> Runner:
    groups = kv_groups(model.layers)
    return Runner(
        model=model,
        attention=on_meta(*attention),
        sampler=StandardSampler(config=StandardSamplerConfig()),
        processors=(),
        layout=KVLayout(
            groups=groups, block_size=BLOCK, num_blocks=(32,) * len(groups), max_tokens=MAX_TOKENS
        ),
        device=META,
        dtype=model.dtype,
        kv_dtype="auto",
        max_sequences=8,
        capture=capture,
    )


def plan(index: int, groups: int) -> StepPlan:
    """Step `index` of sequences that each compute one token; the first step brings them."""
    rows = []
    for slot, length in enumerate(LENGTHS):
        newcomer = Newcomer(
            token_ids=tuple(range(length)), num_prompt=length, params=SamplingParams(temperature=0), seed=slot
        )
        rows.append(
            Row(
                sequence_id=f"s{slot}",
                slot=slot,
                start=length - 1 + index,
                count=1,
                samples=True,
                first_block=(0,) * groups,
                new_blocks=((2 * slot, 2 * slot + 1) if index == 0 else (),) * groups,
                newcomer=newcomer if index == 0 else None,
            )
        )
    return StepPlan(index=index, rows=tuple(rows), shape=StepShape.of(tuple(rows)))


def check_steps(model: Model, monkeypatch: pytest.MonkeyPatch, attention=PAGED) -> None:
    """Two steps are launched with no token known; to the host come the drawn tokens and which rows failed."""
    taken = []
    monkeypatch.setattr(Readback, "take", lambda _, tensor: taken.append(tensor) or tensor)
    capture = Capture()
    runner = make_runner(model, capture, attention)
    groups = len(kv_groups(model.layers))
    first, _ = [runner.launch(plan(index, groups)) for index in range(2)]
    assert (capture.captured, capture.replayed) == (1, 2)
    assert [(each.dtype, each.shape[0]) for each in taken] == [(torch.int64, 3), (torch.bool, 3)] * 2
    with pytest.raises(NotImplementedError, match="no data"):
        first.result()


FAMILIES = ["llama", "gemma2", "mixtral", "qwen3_moe", "qwen3_moe_mixed", "deepseek_v2", "deepseek_v3"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_decoding_step_asks_the_device_nothing(tmp_path, monkeypatch, family):
    make_checkpoint(family, tmp_path)
    model = load_on_meta(tmp_path, "none")
    assert model.uncapturable is None
    check_steps(model, monkeypatch)


def test_choosing_pages_asks_nothing(tmp_path, monkeypatch):
    """In one layer of each kind: one that reads everything, one that chooses."""
    make_checkpoint("llama", tmp_path)
    attention = (QuestAttention, QuestConfig(pages=1, dense_layers=1))
    chosen = []
    choose = torch.Tensor.topk
    monkeypatch.setattr(
        torch.Tensor, "topk", lambda *args, **options: chosen.append(args) or choose(*args, **options)
    )
    model = load_on_meta(tmp_path, "none", attention=attention)
    assert on_meta(*attention).capturable
    check_steps(model, monkeypatch, attention)
    assert any(scores.dim() == 3 for scores, *_ in chosen)


@pytest.mark.parametrize("quantization", ["w4a16", "w8a16", "fp8"])
def test_experts_with_quantised_weights_ask_nothing(tmp_path, monkeypatch, quantization):
    make_checkpoint("qwen3_moe", tmp_path)
    model = load_on_meta(tmp_path, quantization)
    assert model.uncapturable is None
    check_steps(model, monkeypatch)


@pytest.mark.parametrize(
    ("quantization", "ops", "config"),
    [("w8a8", NativeOps, NativeOpsConfig), ("none", TorchOps, TorchOpsConfig)],
)
def test_experts_one_by_one_are_known_to_ask(tmp_path, monkeypatch, quantization, ops, config):
    make_checkpoint("mixtral", tmp_path)
    model = load_on_meta(tmp_path, quantization, ops, config)
    assert model.uncapturable == "layers.0.mlp.experts.gate_up asks the device how many rows each expert has"
    with pytest.raises(NotImplementedError, match="no data"):
        check_steps(model, monkeypatch)
