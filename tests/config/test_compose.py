"""From overrides to a typed configuration."""

from __future__ import annotations

import pickle
from dataclasses import fields

import pytest

from distributions import write_distribution
from quire.config.compose import compose
from quire.config.run_config import Device, DType, RunConfig, run_config_type
from quire.engine.config import EngineConfig
from quire.errors import UserError
from quire.kinds import KINDS, Kind
from quire.registry import load_registry

MODULE = '''
import enum
from dataclasses import dataclass, field
from omegaconf import MISSING
from quire.errors import UserError
from quire.interfaces import Scheduler

class Mode(enum.Enum):
    kind = 1
    unkind = 2

@dataclass
class AgingConfig:
    aging: float = 0.5
    knob: int = 1
    strict: bool = False
    mode: Mode = Mode.kind
    weights: list[float] = field(default_factory=lambda: [1.0])
    shares: dict[str, float] = field(default_factory=dict)
    limit: int | None = None

    def __post_init__(self):
        if self.aging < 0:
            raise UserError(f"scheduler.aging={self.aging}: must be at least 0")

class Aging(Scheduler):
    """Overtaken ones age."""
    Config = AgingConfig
    def __init__(self, *, config): ...
    def schedule(self, queues, step): ...

@dataclass
class TraceConfig:
    path: str = MISSING

class Trace(Aging):
    Config = TraceConfig
'''


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """quire's own plugins and two schedulers of a stranger's."""
    entries = {"aging": "compose_aging:Aging", "trace": "compose_aging:Trace"}
    write_distribution(tmp_path, "quire-aging", {"quire.scheduler": entries}, {"compose_aging": MODULE})
    monkeypatch.syspath_prepend(tmp_path)
    return load_registry()


def test_a_run_without_overrides_holds_each_kinds_default(registry):
    config = compose([], registry)
    assert type(config) is RunConfig
    assert (config.model, config.device, config.dtype, config.seed) == ("demo", Device.auto, DType.auto, 0)
    assert config.engine == EngineConfig()
    for kind in KINDS:
        if kind.default is not None:
            assert getattr(config, kind.name) == registry.get(kind.name, kind.default).Config()


def test_every_group_has_a_field():
    chosen = {kind.name for kind in KINDS if kind.default is not None}
    assert chosen <= {field.name for field in fields(RunConfig)}
    assert run_config_type(KINDS) is RunConfig


def test_a_strangers_options_are_typed(registry):
    config = compose(
        [
            "scheduler=aging",
            "scheduler.aging=2",
            "scheduler.strict=true",
            "scheduler.mode=unkind",
            "scheduler.weights=[1,2]",
            "+scheduler.shares.a=0.5",
            "scheduler.limit=${seed}",
            "seed=7",
            "device=cpu",
            "dtype=bfloat16",
            "engine.max_sequences=3",
            "model=42",
        ],
        registry,
    )
    scheduler = config.scheduler
    assert type(scheduler) is registry.get("scheduler", "aging").Config
    assert scheduler.aging == 2.0
    assert isinstance(scheduler.aging, float)
    assert scheduler.strict is True
    assert scheduler.mode.name == "unkind"
    assert scheduler.weights == [1.0, 2.0]
    assert scheduler.shares == {"a": 0.5}
    assert scheduler.limit == 7
    assert (config.device, config.dtype, config.seed) == (Device.cpu, DType.bfloat16, 7)
    assert config.engine == EngineConfig(max_sequences=3)
    assert config.model == "42"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("scheduler=aging scheduler.aging=abc", "scheduler.aging=abc: Value 'abc' .* Float"),
        ("scheduler=aging scheduler.knob=1.5", "scheduler.knob=1.5: .* Integer"),
        ("scheduler=aging scheduler.mode=rude", r"scheduler.mode=rude: .*\[kind, unkind\]"),
        ("scheduler=aging scheduler.aging=-1", "scheduler.aging=-1.0: must be at least 0"),
        (
            "scheduler=aging scheduler.agng=1",
            r"'agng' not in 'AgingConfig' \(did you mean 'aging'\?\)",
        ),
        ("scheduler.strict=1", r"'strict' not in 'FcfsConfig': it is an option of scheduler=aging$"),
        ("+scheduler.agng=1", "scheduler.agng: FcfsConfig has no such key"),
        (
            "scheduler=aging scheduler.shares={a:2}",
            r"^scheduler.shares: has no 'a' yet; \+scheduler.shares.a=VALUE enters it$",
        ),
        (
            "scheduler=agin",
            r"Could not find 'scheduler/agin': .*\(did you mean 'aging'\?\); choose",
        ),
        ("scheduler=trace", "scheduler.path: no value given"),
        ("scheduler=[aging,fcfs]", "FcfsConfig is not a subclass of AgingConfig"),
        ("~scheduler", "scheduler: no value given"),
        ("scheduler=null", "Got NoneType"),
        ("schedular=fcfs", r"'schedular' not in 'RunConfig' \(did you mean 'scheduler'\?\)"),
        ("sheduler.knob=1", r"'sheduler' not in 'RunConfig' \(did you mean 'scheduler'\?\)"),
        ("+sede=3", r"sede: RunConfig has no such key \(did you mean 'seed'\?\)"),
        ("seed=abc", "seed=abc: Value 'abc' .* Integer"),
        ("seed=-1", "seed=-1: must be at least 0"),
        ("seed=", "seed=: "),
        ("model=", "model='': must be demo, a directory or a hub id"),
        ("device=gpu", r"device=gpu: .*\[auto, cpu, cuda\]"),
        ("dtype=fp32", r"dtype=fp32: .*\[auto, float32, bfloat16, float16\]"),
        ("engine.max_sequence=3", r"'max_sequence' not in 'EngineConfig' \(did you mean 'max_sequences'\?\)"),
        ("engine.max_sequences=0", "engine.max_sequences=0: must be at least 1"),
        ("engine.max_sequences=x", "engine.max_sequences=x: Value 'x' .* Integer"),
        ("engine.kv_bytes=${nothing}", "engine.kv_bytes: Interpolation key 'nothing' not found"),
        ("engine=3", "engine=3: "),
        ("seed=1,2", "Ambiguous value .* --multirun"),
        ("hydra/launcher=basi", r"'hydra/launcher/basi' \(did you mean 'basic'\?\)"),
        ("a=[", "GROUP=PLUGIN or KEY=VALUE is expected"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(registry, overrides, message):
    with pytest.raises(UserError, match=message) as raised:
        compose(overrides.split(" "), registry)
    assert "\n" not in str(raised.value)
    assert "https://" not in str(raised.value)


def test_a_plugin_that_fails_to_import_shows_its_own_error_when_it_is_chosen(tmp_path, monkeypatch):
    entries = {"quire.scheduler": {"lost": "compose_lost:Lost"}}
    write_distribution(tmp_path, "quire-lost", entries, {"compose_lost": "import no_such_library"})
    monkeypatch.syspath_prepend(tmp_path)
    registry = load_registry()
    assert compose([], registry).scheduler is not None
    expected = "'scheduler/lost': scheduler 'lost' of quire-lost 1.0: .*No module named 'no_such_library'"
    with pytest.raises(UserError, match=expected):
        compose(["scheduler=lost"], registry)


def test_configs_survive_pickling(registry):
    config = compose(["scheduler=aging", "scheduler.knob=3"], registry)
    assert pickle.loads(pickle.dumps(config)) == config


FOREIGN_KIND = """
from dataclasses import dataclass
from quire.kinds import Kind

class Predictor: ...
KIND = Kind(name="estimator", interface="compose_kind:Predictor", summary="output lengths", default="oracle")

@dataclass
class OracleConfig:
    error: float = 0.0
class Oracle(Predictor):
    Config = OracleConfig
"""


def test_a_strangers_kind_is_a_group_like_any_other(tmp_path, monkeypatch):
    entries = {
        "quire.kind": {"estimator": "compose_kind:KIND"},
        "quire.estimator": {"oracle": "compose_kind:Oracle"},
    }
    write_distribution(tmp_path, "quire-predict", entries, {"compose_kind": FOREIGN_KIND})
    monkeypatch.syspath_prepend(tmp_path)
    registry = load_registry()
    config = compose(["estimator.error=0.2"], registry)
    assert config.estimator == registry.get("estimator", "oracle").Config(error=0.2)
    assert isinstance(config, RunConfig)
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(UserError, match=r"estimator.error=x: "):
        compose(["estimator.error=x"], registry)


def test_a_type_for_foreign_kinds_is_found_by_its_name():
    kind = Kind(name="power_cap", interface="m:C", summary="", default="none")
    found = run_config_type([*KINDS, kind])
    assert issubclass(found, RunConfig)
    assert pickle.loads(pickle.dumps(found)) is found
    assert run_config_type([kind, *KINDS]) is found
