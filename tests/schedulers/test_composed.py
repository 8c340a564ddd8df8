"""Every scheduler, victim policy and predictor by its name on the command line, served through a run's own
parts."""

import json

import pytest
from serving import random_requests, served

from quire.config.compose import compose
from quire.errors import UserError
from quire.registry import load_registry
from quire.run import Run

REGISTRY = load_registry()


def policies(tmp_path, *overrides: str):
    run = Run(config=compose(list(overrides), REGISTRY), registry=REGISTRY, directory=tmp_path)
    return run.policies()


def serves(tmp_path, *overrides: str):
    scheduler, victims = policies(tmp_path, *overrides)
    requests = random_requests(0, 25, rate=30.0)
    outcome = served(scheduler, requests, blocks=60, sequences=8, victims=victims, overlap=True)
    assert len(outcome.records) == 25
    assert not outcome.errors
    return scheduler, victims


@pytest.mark.parametrize("name", REGISTRY.names("scheduler"))
def test_every_scheduler(name, tmp_path):
    scheduler, _ = serves(tmp_path, f"scheduler={name}", "predictor=oracle")
    assert type(scheduler) is REGISTRY.get("scheduler", name)


@pytest.mark.parametrize("name", REGISTRY.names("victim"))
def test_every_victim_policy(name, tmp_path):
    _, victims = serves(tmp_path, f"victim={name}")
    assert type(victims) is REGISTRY.get("victim", name)


@pytest.mark.parametrize("name", REGISTRY.names("predictor"))
def test_every_predictor(name, tmp_path):
    log = tmp_path / "requests.jsonl"
    record = {"num_prompt_tokens": 9, "tenant": "default", "finish_reason": "stop", "token_times": [0, 1]}
    log.write_text(json.dumps(record))
    overrides = [f"predictor.log={log}"] if name == "learned" else []
    scheduler, victims = serves(
        tmp_path, "scheduler=srpt", "victim=longest_remaining", f"predictor={name}", *overrides
    )
    assert type(scheduler.predictor) is REGISTRY.get("predictor", name)
    assert scheduler.predictor is victims.predictor  # one that knows what both have seen


def test_a_predictor_that_nobody_asks_is_not_made(tmp_path):
    scheduler, _ = policies(tmp_path, "scheduler=fcfs", "predictor=learned", "predictor.log=nowhere")
    assert scheduler.predictor is None
    with pytest.raises(UserError, match=r"predictor.log=nowhere: cannot be read"):
        policies(tmp_path, "scheduler=sjf", "predictor=learned", "predictor.log=nowhere")


def test_options_are_typed_and_named(tmp_path):
    scheduler, _ = policies(
        tmp_path,
        "scheduler=vtc",
        "+scheduler.weights.a=2",
        "+scheduler.weights.b=1",
        "scheduler.output_weight=3",
    )
    assert scheduler._config.weights == {"a": 2.0, "b": 1.0}
    scheduler, _ = policies(tmp_path, "scheduler=niyama", "+scheduler.tiers.chat=[1,0.05]")
    assert scheduler._config.tiers == {"chat": [1.0, 0.05]}
    with pytest.raises(UserError, match=r"predictor.correlation=2.0: must be in \[0, 1\]"):
        compose(["predictor=noisy", "predictor.correlation=2"], REGISTRY)
    with pytest.raises(UserError, match=r"scheduler.aging=-1.0"):
        compose(["scheduler=srpt", "scheduler.aging=-1"], REGISTRY)
    with pytest.raises(UserError, match=r"did you mean 'srpt'"):
        compose(["scheduler=srtp"], REGISTRY)
