"""Loading a checkpoint with plain operations and the reference's attention."""

from collections.abc import Mapping
from pathlib import Path

from packed import ReferenceAttention

from quire.interfaces.architecture import Architecture
from quire.interfaces.ops import Ops
from quire.interfaces.quantization import Quantization
from quire.models.build import load_model
from quire.models.model import Model
from quire.runtime.rank_group import RankGroup
from quire_plugins.architectures.bloom import Bloom
from quire_plugins.architectures.deepseek_v2 import DeepseekV2
from quire_plugins.architectures.deepseek_v3 import DeepseekV3
from quire_plugins.architectures.falcon import Falcon
from quire_plugins.architectures.gemma import Gemma2, Gemma3
from quire_plugins.architectures.llama import Llama
from quire_plugins.architectures.mistral import Mistral
from quire_plugins.architectures.mixtral import Mixtral
from quire_plugins.architectures.mpt import Mpt
from quire_plugins.architectures.phi3 import Phi3
from quire_plugins.architectures.qwen import Qwen2, Qwen3, Qwen3Moe
from quire_plugins.ops.torch_ops import TorchOps, TorchOpsConfig
from quire_plugins.quantization.none import NoQuantization, NoQuantizationConfig

ARCHITECTURES = {
    "BloomForCausalLM": Bloom(),
    "DeepseekV2ForCausalLM": DeepseekV2(),
    "DeepseekV3ForCausalLM": DeepseekV3(),
    "FalconForCausalLM": Falcon(),
    "Gemma2ForCausalLM": Gemma2(),
    "Gemma3ForCausalLM": Gemma3(),
    "LlamaForCausalLM": Llama(),
    "MistralForCausalLM": Mistral(),
    "MixtralForCausalLM": Mixtral(),
    "MptForCausalLM": Mpt(),
    "Phi3ForCausalLM": Phi3(),
    "Qwen2ForCausalLM": Qwen2(),
    "Qwen3ForCausalLM": Qwen3(),
    "Qwen3MoeForCausalLM": Qwen3Moe(),
}


def load(
    directory: Path | str,
    *,
    ops: Ops | None = None,
    quantization: Quantization | None = None,
    dtype: str = "auto",
    device: str = "cpu",
    max_tokens: int | None = None,
    group: RankGroup | None = None,
    architectures: Mapping[str, Architecture] = ARCHITECTURES,
) -> Model:
    return load_model(
        str(directory),
        architectures=architectures,
        attention=ReferenceAttention(),
        ops=ops or TorchOps(config=TorchOpsConfig(), device=device),
        quantization=quantization or NoQuantization(config=NoQuantizationConfig(), device=device),
        device=device,
        dtype=dtype,
        max_tokens=max_tokens,
        group=group,
    )
