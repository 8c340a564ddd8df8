"""The search for the highest rate: against a capacity that is known, and on the engine in virtual time."""

import io
import json
from functools import cached_property

import pytest
from rich.console import Console

from quire.config.compose import compose
from quire.errors import UserError
from quire.jobs.launch import Launch
from quire.registry import load_registry
from quire.run import Run
from quire_plugins.tasks.capacity import CapacityConfig, describe
from quire_plugins.tasks.capacity_search import Probe, search

REGISTRY = load_registry()
LIMITS = {"start": 1.0, "factor": 2.0, "lowest": 0.01, "highest": 1000.0, "precision": 0.05}


def holds_up_to(capacity, asked):
    def probe(rate):
        asked.append(rate)
        return Probe(
            rate=rate, seed=0, misses=[] if rate <= capacity else ["too slow"], directory="", seconds=1.0
        )

    return probe


@pytest.mark.parametrize("capacity", [0.013, 0.4, 1.0, 5.3, 640.0])
@pytest.mark.parametrize("factor", [1.25, 2.0])
def test_the_bracket_closes_around_the_capacity(capacity, factor):
    asked = []
    found = search(holds_up_to(capacity, asked), **(LIMITS | {"factor": factor}))
    assert found.low <= capacity < found.high <= 1.05 * found.low * (1 + 1e-12)
    assert [probe.rate for probe in found.probes] == asked
    assert len(asked) == len(set(asked)) <= 20


def test_beyond_the_limits_an_end_stays_open():
    found = search(holds_up_to(1e9, []), **LIMITS)
    assert (found.low, found.high) == (1000.0, None)
    found = search(holds_up_to(0.0, []), **LIMITS)
    assert (found.low, found.high) == (None, 0.01)


def test_what_was_found_is_said_in_a_line():
    result = {"arm": "fcfs", "capacity": 4.2, "low": 4.0, "high": 4.5, "objectives": {"ttft_p99": 1.0}}
    result["seeds"] = [{}, {}, {}]
    assert describe(result).startswith("fcfs: capacity 4.2 requests/s, the median of 3 seeds; [4, 4.5]")
    assert "no rate was found" in describe(result | {"capacity": None, "low": None})
    assert "still hold at task.highest" in describe(result | {"high": None})


@pytest.mark.parametrize(
    "options",
    [{"start": 0.0}, {"precision": -1.0}, {"seeds": 0}, {"retries": -1}, {"start": 1.0, "highest": 0.5}],
)
def test_bad_options_are_named(options):
    with pytest.raises(UserError, match=r"task\.(start|precision|seeds|retries)="):
        CapacityConfig(**options)


class QuietRun(Run):
    """Prints into a string."""

    @cached_property
    def console(self) -> Console:
        return Console(file=io.StringIO(), width=120)


@pytest.fixture
def make(tmp_path):
    """A run of task=capacity in which a step takes 10 ms, and 1 ms a token."""
    from quire.engine.shape import StepShape

    cost = {"base_seconds": 0.01, **dict.fromkeys(StepShape.__dataclass_fields__, 0.0), "num_tokens": 1e-3}
    (tmp_path / "cost.json").write_text(json.dumps({"cost_model": "linear", "parameters": cost}))

    def make(*overrides):
        common = ["task=capacity", "executor=simulated", f"cost_model.path={tmp_path / 'cost.json'}"]
        common += ["engine.kv_bytes=24MiB", "device=cpu", "dtype=float32", "attention=sdpa", "ops=torch"]
        config = compose([*common, *overrides], REGISTRY)
        launch = Launch(command=("run.py",), overrides=overrides)
        return QuietRun(config=config, registry=REGISTRY, directory=tmp_path / "run", launch=launch)

    return make


def test_capacity_in_virtual_time_is_found_recorded_and_read_by_the_report(make, tmp_path):
    """Requests of 90 prompt and 10 output tokens cost at least 0.1 s of the model: ten a second at most."""
    overrides = ["workload=synthetic", "workload.prompt_mean=90", "workload.prompt_sigma=0"]
    overrides += ["workload.output_mean=10", "workload.output_sigma=0", "slo.ttft_p90=1.0"]
    run = make(*overrides, "task.seconds=20", "task.seeds=2", "task.precision=0.2")
    REGISTRY.create("task", run.config.task).run(run)
    result = json.loads((tmp_path / "run" / "capacity.json").read_text())
    assert 5 < result["capacity"] < 10
    for each in result["seeds"]:
        outcomes = {probe["rate"]: not probe["misses"] for probe in each["probes"]}
        assert outcomes[each["low"]]
        assert not outcomes[each["high"]]
        assert each["high"] / each["low"] <= 1.2 * (1 + 1e-12)

    from quire.report.study import load_study

    study = load_study(tmp_path / "run")
    assert study.capacities[0]["capacity"] == result["capacity"]
    probes = [probe for each in result["seeds"] for probe in each["probes"]]
    assert sorted(cell.run.name for cell in study.cells) == sorted(probe["directory"] for probe in probes)
    assert "the queue grows" in str(probes)
    failed = {probe["directory"] for probe in probes if probe["misses"]}
    early = {cell.run.name for cell in study.cells if cell.run.cut is not None}
    assert early, "the first probes above the capacity fail by far"
    assert early <= failed
    assert "ended early: it was sure to miss an objective" in str(study.notes)
    assert f"capacity {result['capacity']:.3g} requests/s" in run.console.file.getvalue()


def test_a_search_without_objectives_or_rate_is_refused(make, tmp_path):
    run = make("workload=synthetic")
    with pytest.raises(UserError, match=r"slo: no objective of a run is given"):
        REGISTRY.create("task", run.config.task).run(run)
    (tmp_path / "w.jsonl").write_text("")
    run = make("workload=jsonl", f"workload.path={tmp_path / 'w.jsonl'}", "slo.ttft_p99=1.0")
    with pytest.raises(UserError, match="workload=jsonl: has no rate to search"):
        REGISTRY.create("task", run.config.task).run(run)


@pytest.mark.parametrize(
    ("override", "option"), [("workload.requests=40", "task.seconds"), ("workload.rate=4", "task.start")]
)
def test_what_every_probe_sets_is_not_taken_from_the_user(make, override, option):
    run = make("workload=synthetic", "slo.ttft_p99=1.0", override)
    with pytest.raises(UserError, match=rf"{override}: task=capacity sets .* for each probe; {option}"):
        REGISTRY.create("task", run.config.task).run(run)
