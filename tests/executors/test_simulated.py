"""Virtual time: the same plans as in reality, the clock moved by the cost model, nothing computed."""

from __future__ import annotations

import gc
import io
import json
import tracemalloc
from contextlib import closing
from functools import cached_property
from itertools import pairwise

import msgspec
import pytest
from rich.console import Console

from quire.clock import Clock, VirtualClock, WallClock
from quire.config.compose import compose
from quire.engine.request import Request, SamplingParams
from quire.engine.sequence import FinishReason
from quire.engine.shape import StepShape
from quire.errors import MissingCapability, UserError
from quire.interfaces.workload import WorkloadContext
from quire.jobs.feed import serve
from quire.registry import load_registry
from quire.run import Run

REGISTRY = load_registry()
COST = {
    "base_seconds": 0.01,
    **dict.fromkeys(StepShape.__dataclass_fields__, 0.0),
    "num_tokens": 1e-4,
    "decode_context": 1e-6,
}


class QuietRun(Run):
    """Prints into a string."""

    @cached_property
    def console(self) -> Console:
        return Console(file=io.StringIO(), width=120)


@pytest.fixture
def make(tmp_path):
    """A run of the demo model by overrides; simulated unless told."""
    calibration = tmp_path / "cost.json"
    calibration.write_text(json.dumps({"cost_model": "linear", "parameters": COST}))

    def make(*overrides: str, simulated: bool = True) -> Run:
        common = ["engine.kv_bytes=24MiB", "device=cpu", "dtype=float32", "attention=sdpa", "ops=torch"]
        if simulated:
            common += ["executor=simulated", f"cost_model.path={calibration}"]
        config = compose([*common, *overrides], REGISTRY)
        return QuietRun(config=config, registry=REGISTRY, directory=tmp_path / "run")

    return make


def request(id: str, **changes) -> Request:
    sampling = SamplingParams(temperature=0.0, max_tokens=changes.pop("max_tokens", 8))
    return Request(id=id, prompt_token_ids=(5,) * changes.pop("length", 20), sampling=sampling, **changes)


def outputs(engine, *requests) -> list:
    return [output for news in serve(engine, requests) for output in news]


class RecordedClock(Clock):
    """Real time, and what it said each time it was asked."""

    def __init__(self) -> None:
        self._clock = WallClock()
        self.readings: list[float] = []

    def now(self) -> float:
        self.readings.append(self._clock.now())
        return self.readings[-1]

    def sleep_until(self, when: float) -> None:
        self._clock.sleep_until(when)


class ReplayedClock(Clock):
    """Says again what a recorded clock said, question by question."""

    def __init__(self, readings: list[float]) -> None:
        self._readings = iter(readings)

    def now(self) -> float:
        return next(self._readings)

    def sleep_until(self, when: float) -> None:
        pass


def plans_of(run: Run, clock: Clock) -> tuple[list, list]:
    """The plans of serving the run's workload under `clock`, and the records of its requests."""
    plans, records = [], []
    with closing(run.engine(with_text=False)) as engine:
        engine.clock = clock
        submit = engine._executor.submit

        def note(plan):
            # what a preempted sequence is told again holds sampled tokens, which a simulation makes up
            plans.append([msgspec.structs.replace(row, newcomer=None) for row in plan.rows])
            submit(plan)

        engine._executor.submit = note
        workload = run.workload()
        context = WorkloadContext(
            seed=0,
            vocab_size=engine.info.vocab_size,
            max_model_tokens=engine.max_model_tokens,
            tokenizer=None,
        )
        for news in serve(engine, workload.requests(context), follow=workload.on_end):
            records += [output.record for output in news if output.record is not None]
    return plans, records


@pytest.mark.parametrize("scheduler", ["fcfs", "sarathi", "prefill_first", "static"])
def test_the_same_clock_gives_the_very_plans_of_the_real_run(make, scheduler):
    """Every row, slot and block of every step, preemptions and prefix hits included."""
    overrides = [
        *(f"scheduler={scheduler}", "engine.kv_bytes=4MiB", "engine.max_sequences=8"),
        *("engine.max_step_tokens=96", "workload=synthetic", "workload.requests=16", "workload.rate=60"),
        *("workload.prompt_mean=60", "workload.output_mean=16", "workload.output_cap=40"),
        *("workload.prompt_cap=200", "workload.shared_prefix=32", "workload.turns=2"),
    ]
    clock = RecordedClock()
    real = plans_of(make(*overrides, simulated=False), clock)
    simulated = plans_of(make(*overrides), ReplayedClock(clock.readings))
    assert simulated == real
    assert len(real[0]) > 50
    assert any(record.num_cached_tokens for record in real[1])


def test_the_clock_moves_by_the_cost_of_each_step(make):
    run = make("engine.overlap=false")
    with closing(run.engine(with_text=False)) as engine:
        assert isinstance(engine.clock, VirtualClock)
        outputs(engine, request("a", length=20, forced_output_tokens=3))
        steps = engine.take_records()
    expected = [0.01 + 20e-4, 0.01 + 1e-4 + 21e-6, 0.01 + 1e-4 + 22e-6]
    assert [step.seconds for step in steps] == pytest.approx(expected)
    assert [step.end for step in steps] == pytest.approx([sum(expected[: k + 1]) for k in range(3)])


def test_with_overlap_steps_follow_each_other_without_a_gap(make):
    with closing(make().engine(with_text=False)) as engine:
        outputs(engine, *(request(str(k), forced_output_tokens=9) for k in range(3)))
        steps = engine.take_records()
    for before, step in pairwise(steps):
        assert step.start <= before.end  # submitted while the one before runs
        assert step.end == pytest.approx(before.end + step.seconds)


def test_time_passes_over_an_idle_engine(make):
    with closing(make().engine(with_text=False)) as engine:
        found = outputs(engine, request("a", arrival_time=0.0), request("b", arrival_time=5000.0))
    last = [output.record for output in found if output.record is not None][-1]
    assert last.request_id == "b"
    assert 5000.0 < last.finish < 5001.0


def test_memory_is_laid_out_as_in_reality(make):
    real = make(simulated=False)
    with closing(real.engine(with_text=False)) as engine, closing(make().engine(with_text=False)) as other:
        assert other._layout == engine._layout
        assert other.info == engine.info


def test_outputs_that_are_not_forced_end_at_random_with_the_mean_asked_for(make):
    with closing(make("executor.output_mean=30").engine(with_text=False)) as engine:
        requests = [request(f"r{k}", max_tokens=400, length=4) for k in range(300)]
        found = [o.record for o in outputs(engine, *requests) if o.record is not None]
    lengths = [record.num_output_tokens for record in found]
    assert {record.finish_reason for record in found} == {"stop"}
    assert sum(lengths) / 300 == pytest.approx(30, rel=0.2)  # standard error 1.7
    assert min(lengths) <= 3
    with closing(make().engine(with_text=False)) as engine:
        (record,) = [o.record for o in outputs(engine, request("a")) if o.record is not None]
    assert (record.num_output_tokens, record.finish_reason) == (8, "length")


def test_a_preempted_output_still_ends_where_it_was_drawn_to(make):
    overrides = ("executor.output_mean=60", "engine.max_sequences=16")
    requests = [request(f"r{k}", max_tokens=400, length=16) for k in range(16)]
    lengths = []
    for kv_bytes in ("24MiB", "2MiB"):
        with closing(make(*overrides, f"engine.kv_bytes={kv_bytes}").engine(with_text=False)) as engine:
            found = [o.record for o in outputs(engine, *requests) if o.record is not None]
        lengths.append({record.request_id: record.num_output_tokens for record in found})
    assert lengths[0] == lengths[1]
    assert sum(record.num_preemptions for record in found) > 0


def test_what_nothing_computes_is_refused_by_name(make):
    with closing(make().engine(with_text=False)) as engine:
        asked = Request(id="a", prompt_token_ids=(1, 2), sampling=SamplingParams(max_tokens=2, logprobs=1))
        fine = request("b")
        found = [o for o in outputs(engine, asked, fine) if o.finish_reason is not None]
    by_id = {output.request_id: output for output in found}
    assert by_id["a"].finish_reason is FinishReason.ERROR
    assert "computes no logits" in by_id["a"].error
    assert by_id["b"].finish_reason is FinishReason.LENGTH


def test_what_a_simulation_cannot_know_must_be_said(make):
    with pytest.raises(UserError, match=r"engine\.kv_bytes=auto: executor=simulated has no memory"):
        make("engine.kv_bytes=auto").engine(with_text=False)
    with pytest.raises(MissingCapability, match="runs on a virtual clock only"):
        make().engine(clock=WallClock(), with_text=False)
    with pytest.raises(UserError, match=r"executor\.output_mean=0"):
        make("executor.output_mean=0")
    with pytest.raises(UserError, match=r"cost_model\.path=null: must be a file that `quire calibrate"):
        make("cost_model.path=null").engine(with_text=False)


def test_a_device_that_is_not_here_can_be_simulated(make):
    with closing(make("device=cuda", "attention=paged").engine(with_text=False)) as engine:
        assert engine._layout.block_size == 16
    with closing(make("device=cpu", "attention=paged").engine(with_text=False)) as engine:
        assert engine._layout.block_size == 64


def test_the_bench_runs_in_virtual_time_and_is_the_same_again(make):
    results = []
    for _ in range(2):
        run = make("workload=synthetic", "workload.requests=30", "workload.rate=2")
        run.registry.create("task", run.config.task).run(run)
        results.append((run.directory / "requests.jsonl").read_text())
    assert results[0] == results[1]
    summary = json.loads((run.directory / "summary.json").read_text())
    assert summary["completed"] == 30
    assert summary["duration_s"] > 10


def test_the_prefixes_that_a_trace_tells_of_are_hit(make, tmp_path):
    trace = tmp_path / "trace.jsonl"
    rows = [(0, 40, [1, 2, 3]), (10, 50, [1, 2, 4, 5]), (20, 32, [1, 2]), (30, 20, [9, 2])]
    trace.write_text(
        "".join(
            json.dumps({"timestamp": t, "input_length": n, "output_length": 2, "hash_ids": ids}) + "\n"
            for t, n, ids in rows
        )
    )
    run = make("workload=qwen_bailian", f"workload.path={trace}", "engine.block_size=16")
    run.registry.create("task", run.config.task).run(run)
    lines = (run.directory / "requests.jsonl").read_text().splitlines()
    # whole blocks of 16, and the prompt's last token is always computed
    assert [json.loads(line)["num_cached_tokens"] for line in lines] == [0, 32, 16, 0]


def test_memory_does_not_grow_with_the_requests(make):
    """What is held after many requests is what was held after few: nothing of those that ended."""
    run = make("workload=synthetic", "workload.requests=1500", "workload.rate=40")
    run.config.workload.prompt_mean, run.config.workload.output_mean = 8.0, 3.0
    workload = run.workload()
    with closing(run.engine(with_text=False)) as engine:
        context = WorkloadContext(seed=0, vocab_size=500, max_model_tokens=64, tokenizer=None)
        held, ended = [], 0
        tracemalloc.start()
        try:
            for news in serve(engine, workload.requests(context)):
                engine.take_records()
                ended += sum(output.record is not None for output in news)
                if ended >= 500 * (len(held) + 1):
                    gc.collect()
                    held.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    assert ended == 1500
    assert held[1] - held[0] < 100_000  # of 500 requests, whose records alone would be more
