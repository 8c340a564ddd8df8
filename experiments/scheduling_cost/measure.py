"""What one call of `schedule()` costs, against the length of the waiting queue. No model runs.

    python experiments/scheduling_cost/measure.py

Sixty-four sequences decode and the rest wait, so that every call adds 64 rows and looks at the queue once.
With a free place (`--places 1`) it also chooses whom to start; who starts is taken back before the next call.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from itertools import product
from pathlib import Path

from quire.engine.config import EngineConfig
from quire.engine.queues import QueueView, RunningView, SequenceQueue, WaitingView
from quire.engine.records import RequestRecord
from quire.engine.request import Request, SamplingParams
from quire.engine.sequence import Sequence, Status
from quire.engine.step import StepBuilder
from quire.interfaces.allocator import KVGroup, KVLayout
from quire.jobs.provenance import command_line, commit_of, describe_machine
from quire.registry import load_registry

RUNNING = 64


def sequence(order: int, *, computed: int) -> Sequence:
    request = Request(
        id=f"r{order}",
        prompt_token_ids=tuple((order * 7919 + i * 31) % 50000 for i in range(200)),
        sampling=SamplingParams(max_tokens=256),
    )
    record = RequestRecord(request_id=request.id, sample=0, tenant="t", arrival=0.0, num_prompt_tokens=200)
    return Sequence(
        id=request.id,
        request=request,
        order=order,
        arrival_time=0.0,
        index=0,
        max_tokens=256,
        output_limit=256,
        tokens=list(request.prompt_token_ids),
        num_computed=computed,
        record=record,
    )


OPTIONS = {"andes": {"max_preemptions": 0}, "ltr": {"starvation_steps": 10**9}}
"""Nobody is preempted, so that all calls are alike."""


def measure(name: str, waiting: int, places: int, calls: int) -> list[float]:
    """Microseconds of each of `calls` calls."""
    registry = load_registry()
    scheduler_type = registry.get("scheduler", name)
    layout = KVLayout(
        groups=(KVGroup(layers=(0,), kv_heads=1, head_dim=64, window=None),),
        block_size=16,
        num_blocks=(RUNNING * 64,),
        max_tokens=1024,
    )
    eviction_type = registry.get("eviction", "lru")
    allocator_type = registry.get("allocator", "paged")
    allocator = allocator_type(
        config=allocator_type.Config(), layout=layout, eviction=eviction_type(config=eviction_type.Config())
    )
    predictor = None
    if scheduler_type.uses_predictor:
        predictor_type = registry.get("predictor", "history")
        predictor = predictor_type(config=predictor_type.Config(), seed=0)
    parts = {} if predictor is None else {"predictor": predictor}
    scheduler = scheduler_type(config=scheduler_type.Config(**OPTIONS.get(name, {})), **parts)
    waiting_queue, running_queue = SequenceQueue(), SequenceQueue()
    for order in range(RUNNING + waiting):
        running = order < RUNNING
        each = sequence(order, computed=199 if running else 0)
        if predictor is not None:
            predictor.on_arrival(each.view, each.request)
        scheduler.on_arrival(each.view)
        if running:
            assert allocator.grow(each.view, 199)
            each.status = Status.RUNNING
        (running_queue if running else waiting_queue).add(each)
    budget = EngineConfig().max_step_tokens
    costs = []
    for _ in range(calls):
        queues = QueueView(
            waiting=WaitingView(waiting_queue), running=RunningView(list(running_queue)), now=0.0
        )
        step = StepBuilder(
            queues=queues,
            allocator=allocator,
            layout=layout,
            victims=None,
            max_tokens=budget,
            max_sequences=RUNNING + places,
            num_holding=RUNNING,
        )
        began = time.perf_counter()
        scheduler.schedule(queues, step)
        costs.append((time.perf_counter() - began) * 1e6)
        started = [view for view in step if view.status is Status.WAITING]
        assert len(step) == RUNNING + len(started) or started  # prefill_first starts or decodes
        assert not step.seal().preempted
        for view in started:
            allocator.free(view)
            scheduler.on_finish(view)
            scheduler.on_arrival(view)
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schedulers", nargs="+", default=load_registry().names("scheduler"))
    parser.add_argument("--waiting", nargs="+", type=int, default=[10, 100, 1000, 10000])
    parser.add_argument("--places", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.json")
    arguments = parser.parse_args()
    rows = []
    for name, waiting, places in product(arguments.schedulers, arguments.waiting, arguments.places):
        costs = measure(name, waiting, places, arguments.calls)
        low, middle, high = (statistics.quantiles(costs, n=20)[i] for i in (0, 9, 18))
        rows.append(
            {
                "scheduler": name,
                "running": RUNNING,
                "waiting": waiting,
                "places": places,
                "p5_us": low,
                "p50_us": middle,
                "p95_us": high,
            }
        )
        print(f"{name:14} {waiting:6} waiting, {places} places: {middle:7.1f} us [{low:.1f}, {high:.1f}]")
    report = {
        "command": command_line("experiments/scheduling_cost/measure.py"),
        "commit": commit_of(Path(__file__)),
        "python": platform.python_version(),
        "machine": describe_machine(),
        "calls": arguments.calls,
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
