"""What the registry finds, refuses and reports."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

from distributions import SCHEDULER, write_distribution
from quire.errors import UserError
from quire.interfaces import Scheduler
from quire.kinds import KINDS, Kind
from quire.registry import load_registry

BAD = SCHEDULER.format(name="Bad")

_numbers = itertools.count()
"""A module is imported once in a process: each test needs names of its own."""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution of one kind: entry name -> target, and modules by name."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name, entries, modules, group="quire.scheduler", version="1.0"):
        write_distribution(tmp_path, name, {group: entries}, modules, version=version)

    return install


def broken(registry):
    return {info.name: info.error for info in registry.broken()}


def test_a_plugin_of_another_distribution_is_found_and_made_from_its_config(install):
    install("quire-slow", {"slow": "slow_one:Slow"}, {"slow_one": SCHEDULER.format(name="Slow")})
    registry = load_registry()
    slow = registry.get("scheduler", "slow")
    assert issubclass(slow, Scheduler)
    assert registry.available("scheduler")["slow"] is slow
    config = slow.Config(aging=2.0)
    made = registry.create("scheduler", config, extra="part")
    assert type(made) is slow
    assert made.config is config
    assert made.extra == "part"
    assert registry.name_of("scheduler", config) == "slow"


def test_info_names_the_distribution_and_the_first_line_of_the_docstring(install):
    install(
        "quire-slow", {"slow": "slow_two:Slow"}, {"slow_two": SCHEDULER.format(name="Slow")}, version="2.3"
    )
    info = load_registry().info("scheduler", "slow")
    assert (info.distribution, info.version, info.status) == ("quire-slow", "2.3", "ok")
    assert (info.target, info.description) == ("slow_two:Slow", "Does nothing, slowly.")


def test_quires_own_plugins_are_found_in_every_kind():
    registry = load_registry()
    for kind in KINDS:
        assert registry.names(kind.name), f"no plugin of kind {kind.name}"
        assert kind.default is None or kind.default in registry.names(kind.name)


def test_a_typo_is_answered_with_the_near_miss_and_the_choice():
    with pytest.raises(UserError, match=r"no scheduler 'sarath' \(did you mean 'sarathi'\?\).*fcfs,"):
        load_registry().get("scheduler", "sarath")
    with pytest.raises(UserError, match=r"no kind 'schedular' \(did you mean 'scheduler'\?\)"):
        load_registry().get("schedular", "fcfs")


def test_a_config_of_no_plugin_is_refused():
    with pytest.raises(UserError, match=r"int configures no scheduler; these do: .*FcfsConfig"):
        load_registry().create("scheduler", 3)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("raise RuntimeError('two\\n  lines')", "RuntimeError: two lines"),
        ("def (", "SyntaxError: "),
        ("", "AttributeError: module '.*' has no attribute 'Bad'"),
        ("Bad = 3", "TypeError: 3 is not a subclass of quire.interfaces.scheduler:Scheduler"),
        ("class Bad: ...", "TypeError: .* is not a subclass"),
        (
            BAD.replace("def schedule", "def shedule"),
            "TypeError: Bad does not implement schedule",
        ),
        (
            SCHEDULER.format(name="Bad").replace("    Config =", "    Other ="),
            "no dataclass `Config` of its own",
        ),
        (
            SCHEDULER.format(name="Bad").replace("@dataclass", "@dataclass(frozen=True)"),
            "BadConfig is frozen",
        ),
        (SCHEDULER.format(name="Bad").replace("aging: float", "aging: set"), "aging"),
        (
            "def scope():\n" + BAD.replace("\n", "\n    ") + "\n    return Bad\nBad = scope()",
            "BadConfig must be defined at module level",
        ),
    ],
)
def test_a_plugin_that_cannot_be_used_is_reported_and_the_others_go_on(install, source, error):
    module = f"bad_{next(_numbers)}"
    install("quire-bad", {"bad": f"{module}:Bad"}, {module: source})
    registry = load_registry()
    (info,) = [info for info in registry.broken() if info.name == "bad"]
    assert (info.kind, info.distribution, info.version, info.status) == (
        "scheduler",
        "quire-bad",
        "1.0",
        "broken",
    )
    with pytest.raises(UserError, match=f"scheduler 'bad' of quire-bad 1.0: .*{error}") as raised:
        registry.get("scheduler", "bad")
    assert "\n" not in str(raised.value)
    assert raised.value.__cause__ is not None, "the plugin's own error is kept"
    assert "bad" not in registry.available("scheduler")
    assert issubclass(registry.get("scheduler", "fcfs"), Scheduler)


def test_a_name_that_two_distributions_claim_names_both(install):
    install("quire-other", {"fcfs": "other:Fcfs"}, {})
    with pytest.raises(
        UserError,
        match=r"scheduler 'fcfs' is registered twice: by quire [\d.]+ .* and by quire-other 1\.0 as other",
    ):
        load_registry()


def test_the_same_name_in_two_kinds_is_no_conflict(install):
    install("quire-slow", {"lru": "slow_three:Slow"}, {"slow_three": SCHEDULER.format(name="Slow")})
    registry = load_registry()
    assert registry.get("scheduler", "lru").__module__ == "slow_three"
    assert registry.get("eviction", "lru").__module__ != "slow_three"


def test_two_plugins_cannot_share_a_config_by_which_neither_could_be_told(install):
    source = SCHEDULER.format(name="One") + "\nclass Two(One):\n    Config = OneConfig\n"
    install("quire-twins", {"one": "twins:One", "two": "twins:Two"}, {"twins": source})
    registry = load_registry()
    assert "two" not in registry.available("scheduler")
    assert "shares OneConfig with 'one'" in broken(registry)["two"]
    assert registry.name_of("scheduler", registry.get("scheduler", "one").Config()) == "one"


def test_a_misspelled_entry_point_group_is_reported(install):
    install("quire-slow", {"slow": "slow_four:Slow"}, {}, group="quire.schedulers")
    assert broken(load_registry())["slow"] == "there is no kind 'schedulers' (did you mean 'scheduler'?)"


PREDICTOR = '''
from abc import ABC
from dataclasses import dataclass
from quire.kinds import Kind

class Predictor(ABC): ...
KIND = Kind(name="{kind}", interface="{module}:Predictor", summary="output lengths", default="oracle")

@dataclass
class OracleConfig:
    error: float = 0.0
class Oracle(Predictor):
    """Knows it all."""
    Config = OracleConfig
'''


def test_a_distribution_may_bring_a_kind_of_its_own(tmp_path, monkeypatch):
    write_distribution(
        tmp_path,
        "quire-predict",
        {
            "quire.kind": {"estimator": "predict_one:KIND"},
            "quire.estimator": {"oracle": "predict_one:Oracle"},
        },
        {"predict_one": PREDICTOR.format(kind="estimator", module="predict_one")},
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry = load_registry()
    assert registry.kinds["estimator"].default == "oracle"
    assert registry.info("estimator", "oracle").description == "Knows it all."
    assert "oracle" not in broken(registry)


def test_a_kind_that_cannot_be_loaded_is_reported(install):
    install("quire-predict", {"estimator": "no_such_module_either:KIND"}, {}, group="quire.kind")
    assert "no_such_module_either" in broken(load_registry())["estimator"]


def test_a_kind_that_exists_already_names_who_claims_it(install):
    source = PREDICTOR.format(kind="scheduler", module="predict_two")
    install("quire-predict", {"scheduler": "predict_two:KIND"}, {"predict_two": source}, group="quire.kind")
    with pytest.raises(UserError, match=r"kind 'scheduler', registered by quire-predict 1.0, exists already"):
        load_registry()


def test_a_kinds_name_is_made_of_words():
    with pytest.raises(ValueError, match="kind 'a__b'"):
        Kind(name="a__b", interface="m:C", summary="")


def test_registering_everything_imports_no_heavy_library():
    code = (
        "import sys; from quire.registry import load_registry; from quire.config.compose import store;"
        "registry = load_registry(); store(registry); registry.plugins();"
        "print(sorted({'torch', 'triton', 'transformers', 'rich', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
