"""A run's configuration: its own few keys, the engine's, and one plugin's options for each group."""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from quire.config.slo import SloConfig
from quire.embedding.config import EmbeddingConfig
from quire.engine.config import EngineConfig
from quire.errors import UserError
from quire.kinds import Kind
from quire.server.config import ServerConfig


class Device(enum.Enum):
    """Where the model runs; auto takes a GPU if there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class DType(enum.Enum):
    """Element type of weights and KV; auto takes what the device computes fast."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@dataclass
class RunConfig:
    """Everything that decides what a run does. Each group holds an instance of its plugin's own `Config`.

    A kind that another distribution brings adds a field of its name (see `run_config_type`).
    """

    model: str = "demo"
    """demo, a directory in Hugging Face format, or a hub id."""
    device: Device = Device.auto
    dtype: DType = DType.auto
    seed: int = 0
    """Everything random derives from it."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    slo: SloConfig = field(default_factory=SloConfig)
    task: Any = MISSING
    scheduler: Any = MISSING
    victim: Any = MISSING
    predictor: Any = MISSING
    allocator: Any = MISSING
    eviction: Any = MISSING
    attention: Any = MISSING
    ops: Any = MISSING
    quantization: Any = MISSING
    sampler: Any = MISSING
    executor: Any = MISSING
    cost_model: Any = MISSING
    workload: Any = MISSING
    tracker: Any = MISSING

    def __post_init__(self) -> None:
        if not self.model:
            raise UserError("model='': must be demo, a directory or a hub id")
        if self.seed < 0:
            raise UserError(f"seed={self.seed}: must be at least 0")


_PREFIX = "RunConfigWith_"


def run_config_type(kinds: Iterable[Kind]) -> type[RunConfig]:
    """`RunConfig`, or a subclass with one more field for each group that it does not know."""
    own = {each.name for each in dataclasses.fields(RunConfig)}
    foreign = sorted(kind.name for kind in kinds if kind.default is not None and kind.name not in own)
    return _extended("__".join(foreign)) if foreign else RunConfig


@functools.cache
def _extended(names: str) -> type[RunConfig]:
    return dataclasses.make_dataclass(
        _PREFIX + names,
        [(name, Any, field(default=MISSING)) for name in names.split("__")],
        bases=(RunConfig,),
        namespace={"__module__": __name__},
    )


def __getattr__(name: str) -> Any:
    """Extended types by name, so that a process that unpickles one finds it here."""
    if name.startswith(_PREFIX):
        return _extended(name.removeprefix(_PREFIX))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
